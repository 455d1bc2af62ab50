"""What pmtool asks of its surroundings: memory, disk, files that appear whole, packages."""
