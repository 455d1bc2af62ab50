"""A model on disk, and the one that ships."""
