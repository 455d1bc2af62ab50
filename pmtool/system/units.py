"""Sizes, times and numbers of things, for messages."""

from __future__ import annotations


def amount(size: int) -> str:
    """Format a size in bytes in a suitable binary unit."""
    if size < 999.5 * 2**20:
        return f"{size / 2**20:.3g} MiB"
    return f"{size / 2**30:.3g} GiB" if size < 999.5 * 2**30 else f"{size / 2**40:.3g} TiB"


def duration(seconds: float) -> str:
    """Format a time in a suitable unit."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(number: int, thing: str) -> str:
    """Format a number of things; the plural is formed with s."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
