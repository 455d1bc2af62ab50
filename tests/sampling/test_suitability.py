"""What is told of scans that a model was not trained for."""

from __future__ import annotations

import pytest
import SimpleITK as sitk

from pmtool.images.volume import Volume
from pmtool.loading import load_volume
from pmtool.sampling.suitability import overlap_text, pixel_text, thickness_text


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


@pytest.mark.parametrize("thickness", [None, 0.5, 1, 1.25])
def test_slices_that_do_not_overlap(thickness: float | None) -> None:
    assert overlap_text(volume(thickness)) is None


def test_slices_that_overlap() -> None:
    assert "overlap, being 2 mm thick and 1 mm apart; " in str(overlap_text(volume(2)))


@pytest.mark.parametrize(
    ("spacing", "told"),
    [
        ((0.7, 0.7, 2.5), None),
        ((0.7, 0.70001, 2.5), None),
        ((0.9, 0.7, 2.5), "taken to lie along z, have pixels of 0.9 x 0.7 mm"),
        ((0.7, 0.9, 0.8), "taken to lie along y, have pixels of 0.7 x 0.8 mm"),
    ],
)
def test_pixels_that_are_not_square(spacing: tuple[float, float, float], told: str | None) -> None:
    image = sitk.Image([4, 4, 3], sitk.sitkInt16)
    image.SetSpacing(spacing)
    text = pixel_text(load_volume(image))
    assert (text is None) == (told is None)
    assert told is None or (text is not None and told in text)
