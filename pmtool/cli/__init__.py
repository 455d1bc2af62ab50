"""The command line: options, types, the console; every command is its own folder's `cli` module."""
