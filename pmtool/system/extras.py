"""Optional packages that some features need."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from pmtool.errors import UsageError


def require(what: str, packages: Iterable[str], extras: str) -> None:
    """Raise `UsageError`, naming the feature and the extra, unless all packages are installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UsageError(f"{what} needs {', '.join(missing)}: pip install '{extras}'")
