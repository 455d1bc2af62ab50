"""How long-running work reports its stage, whoever displays it."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, float], None]
"""Called with the current stage and the share of it that is done."""
