"""How long work tells where it is, whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, float], None]
"""Is called with what is under way, and the share of it that is done."""
