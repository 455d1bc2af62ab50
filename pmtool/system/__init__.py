"""What pmtool asks of the operating system: memory, disk, files that appear whole."""
