"""The folder for things that can be made again: compiled kernels, engines."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pmtool.errors import UsageError
from pmtool.system.files import writing


def cache_folder() -> Path:
    """``$PMTOOL_CACHE``, else ``$XDG_CACHE_HOME/pmtool``, else ``~/.cache/pmtool``; not created.

    A relative ``$XDG_CACHE_HOME`` is ignored, as the XDG base directory specification asks.
    """
    if own := os.environ.get("PMTOOL_CACHE"):
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "pmtool"


def own_folder(folder: Path) -> Path:
    """Make a folder that nobody else can write to, for files that are loaded as code.

    Raises
    ------
    UsageError
        If others can write to it.
    OutputError
        If it cannot be made.
    """
    with writing(folder, remedy="; set PMTOOL_CACHE to another folder"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    if hasattr(os, "getuid") and (
        status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise UsageError(
            f"others can write to {folder}, which keeps code: set PMTOOL_CACHE to a folder of "
            "your own"
        )
    return folder
