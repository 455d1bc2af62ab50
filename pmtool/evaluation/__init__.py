"""`pmtool evaluate` and `pmtool compare`: the paper's measures of slices against the true ones."""

from __future__ import annotations

from pmtool.system.extras import require

PACKAGES = ("cv2", "jinja2", "matplotlib", "scipy", "skimage")


def require_packages(command: str) -> None:
    """Raise `UsageError` if a package that a command needs for measures and report is missing."""
    require(command, PACKAGES, "pmtool[cpu,evaluate]")
