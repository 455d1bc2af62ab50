"""How long-running work reports its stage, whoever displays it."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, float], None]
"""Called with the current stage and the share of it that is done."""

Progress = Callable[[float], None]
"""Called with the amount done so far; whoever passes the callback knows the total."""
ProgressOf = Callable[[float, int], None]
"""Called with the number of slices done so far, possibly fractional, and their total."""


def progress_of(tell: Tell, label: str, total: int) -> Progress:
    """Return a callback that reports the progress of a stage out of ``total``."""
    return lambda done: tell(label, done / max(total, 1))
