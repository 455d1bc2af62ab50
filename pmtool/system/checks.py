"""Checks of single options."""

from __future__ import annotations

from collections.abc import Sequence

from pmtool.errors import UsageError


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Raise `UsageError` for a value that is none of the choices."""
    if value not in choices:
        raise UsageError(f"there is no {what} {value!r}; choose one of {', '.join(choices)}")


def check_positive(what: str, value: int | None) -> None:
    """Raise `UsageError` for a number that is given and below 1."""
    if value is not None and value < 1:
        raise UsageError(f"{what} must be positive, not {value}")
