"""Sizes and times as a message shows them."""

from __future__ import annotations

import pytest

from pmtool.system.units import amount, duration


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (10 * 2**20, "10 MiB"),
        (389_000_000, "371 MiB"),
        (int(999.4 * 2**20), "999 MiB"),
        (int(999.9 * 2**20), "0.976 GiB"),
        (8 * 2**30, "8 GiB"),
        (1536 * 2**30, "1.5 TiB"),
    ],
)
def test_amount(size: int, text: str) -> None:
    assert amount(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
