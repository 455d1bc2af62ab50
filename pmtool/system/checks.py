"""Checks of single options."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from pmtool.errors import UsageError


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Raise `UsageError` for a value that is not one of the choices."""
    if value not in choices:
        raise UsageError(f"there is no {what} {value!r}; choose one of {', '.join(choices)}")


def check_positive(what: str, value: int | None) -> None:
    """Raise `UsageError` for a value, if given, that is not a whole number of at least 1."""
    if value is None:
        return
    if not isinstance(value, Integral):
        raise UsageError(f"{what} must be a whole number, not {value!r}")
    if value < 1:
        raise UsageError(f"{what} must be positive, not {value}")
