"""The environment: memory, disk, files that appear whole, and packages."""
