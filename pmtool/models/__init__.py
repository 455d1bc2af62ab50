"""Models on disk, and the one that ships."""
