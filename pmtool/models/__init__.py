"""Models on disk, and the built-in one."""
