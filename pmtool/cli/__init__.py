"""The command line: options, types and console; each command is the `cli` module of its folder."""
