"""`pmtool evaluate` and `pmtool compare`: measure slices against the truth, as in the paper."""

from __future__ import annotations

from pmtool.system.extras import require

PACKAGES = ("cv2", "jinja2", "matplotlib", "scipy", "skimage")


def require_packages(command: str) -> None:
    """Raise `UsageError` if a package that a command needs to measure or report is missing."""
    require(command, PACKAGES, "pmtool[cpu,evaluate]")
