"""Where things are kept that can be made again: compiled kernels, engines."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$PMTOOL_CACHE``, else ``$XDG_CACHE_HOME/pmtool``, else ``~/.cache/pmtool``; not made here.

    A relative ``$XDG_CACHE_HOME`` is ignored, as the XDG base directory specification asks.
    """
    if own := os.environ.get("PMTOOL_CACHE"):
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "pmtool"
