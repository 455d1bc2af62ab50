"""What a run is warned of."""

from __future__ import annotations

import re

import pytest

from pmtool.geometry.grid import make_grid, reference_grid
from pmtool.resampling.report import copy_text, interpolation_text


def test_copies() -> None:
    text = copy_text(make_grid(5, 2.5, 2.5))
    assert text == "slices 2.5 mm apart are there already; the output is a copy of the input's"
    assert copy_text(make_grid(5, 2.5, 1.25)) is None
    assert copy_text(make_grid(5, 2.5, 2.0)) is None
    shifted = reference_grid(5, 2.5, 2.5, 0.5, 4)
    assert shifted.counts() == {"shifted": 4}
    assert copy_text(shifted) is None
    told = interpolation_text(shifted)
    assert told is not None
    assert "4 of 4 slices are interpolated by the nearest acquired or generated ones" in told


@pytest.mark.parametrize("source_spacing", [2.4942857142857, 2.0000049, 0.9999966])
def test_the_spacings_advised_avoid_interpolation_in_a_long_stack(source_spacing: float) -> None:
    text = interpolation_text(make_grid(900, source_spacing, round(source_spacing / 2, 2)))
    assert text is not None
    advised = re.findall(r"[\d.]+(?= or | mm avoids)", text)
    assert advised
    for spacing in map(float, advised):
        assert interpolation_text(make_grid(900, source_spacing, spacing)) is None
