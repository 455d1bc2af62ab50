"""Geometry of slices: a volume's axes, its grid, and the weights of neighbouring slices."""
