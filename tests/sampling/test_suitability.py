"""What is told of scans that a model was not trained for."""

from __future__ import annotations

import pytest
import SimpleITK as sitk

from pmtool.images.volume import Volume
from pmtool.sampling.suitability import thickness_text


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
