"""The thickness of slices, as networks are told it."""

from __future__ import annotations

import pytest

from pmtool.geometry.thickness import relative_thickness


@pytest.mark.parametrize(
    ("thickness", "distance", "expected"), [(2.5, 1.25, 1.0), (1.25, 1.25, 0.5), (1.0, 2.0, 0.25)]
)
def test_relative_thickness(thickness: float, distance: float, expected: float) -> None:
    assert relative_thickness(thickness, distance) == expected
