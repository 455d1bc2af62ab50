"""Sizes and times in suitable units, for messages."""

from __future__ import annotations


def gibibytes(size: int) -> str:
    """Format a size in bytes."""
    return f"{size / 2**30:.3g} GiB"


def duration(seconds: float) -> str:
    """Format a time in a suitable unit."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
