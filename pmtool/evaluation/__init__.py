"""`pmtool evaluate` and `pmtool compare`: the paper's measures of slices against the true ones."""

PACKAGES = ("cv2", "jinja2", "matplotlib", "scipy", "skimage")
EXTRAS = "pmtool[cpu,evaluate]"
"""Modules that the measures and the report need, and the extras that install them."""
