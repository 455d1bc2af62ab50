"""What a run is warned of."""

from __future__ import annotations

import pytest
import SimpleITK as sitk

from pmtool.geometry.grid import make_grid
from pmtool.images.volume import Volume
from pmtool.resampling.report import copy_text, thickness_text


def volume(thickness: float | None) -> Volume:
    return Volume(sitk.Image([4, 4, 3], sitk.sitkInt16), 2, "ct", known_thickness=thickness)


@pytest.mark.parametrize("thickness", [None, 1.25, 6, 6.05])
def test_thin_slices_and_those_of_unknown_thickness(thickness: float | None) -> None:
    assert thickness_text(volume(thickness), 6.0) is None


def test_thick_slices() -> None:
    text = thickness_text(volume(8), 6.0)
    assert text is not None
    assert "8 mm thick" in text
    assert "up to 6 mm" in text


def test_copies() -> None:
    text = copy_text(make_grid(5, 2.5, 2.5))
    assert text == "slices 2.5 mm apart are there already; the output is a copy of the input's"
    assert copy_text(make_grid(5, 2.5, 1.25)) is None
    assert copy_text(make_grid(5, 2.5, 2.0)) is None
