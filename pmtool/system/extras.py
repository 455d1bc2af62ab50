"""Packages that a command needs beyond pmtool's own."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from pmtool.errors import UsageError


def require(command: str, packages: Iterable[str], extras: str) -> None:
    """Raise `UsageError`, naming the extra, unless the packages are installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(f"pmtool {command} needs {', '.join(missing)}: pip install '{extras}'")
