"""How long-running work reports its stage, whoever displays it."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, float], None]
"""Called with the current stage and the share of it that is done."""

Progress = Callable[[float], None]
"""Called with what is done so far, whose whole the caller knows."""
ProgressOf = Callable[[float, int], None]
"""Called with the slices that are done so far, a fraction, and their total."""


def progress_of(tell: Tell, label: str, total: int) -> Progress:
    """Report a stage, of which ``total`` is the whole."""
    return lambda done: tell(label, done / max(total, 1))
