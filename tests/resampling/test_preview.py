"""The picture before and after, read back pixel by pixel."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from pmtool.geometry.grid import make_grid
from pmtool.images.display import grey
from pmtool.images.volume import Volume
from pmtool.resampling.preview import preview_png

MARGIN, CAPTION, SIZE = 8, 16, 400
LEVELS = (-1200, -800, -400)


def volume(levels: tuple[int, ...], spacing: float) -> sitk.Image:
    """Slices of 400x400 pixels of 0.5 mm, each of one level."""
    slices = np.array(levels, np.int16)[:, None, None] * np.ones((1, SIZE, SIZE), np.int16)
    image = sitk.GetImageFromArray(slices)
    image.SetSpacing((0.5, 0.5, spacing))
    return image


def picture(after: tuple[int, ...], spacing: float) -> NDArray[np.uint8]:
    before = Volume(volume(LEVELS, 2.0), 2, "ct")
    png = preview_png(before, volume(after, spacing), make_grid(3, 2.0, spacing))
    return np.asarray(Image.open(BytesIO(png)))


def greys(*levels: float) -> list[int]:
    return [int(x) for x in grey(np.array(levels))]


def test_before_after_and_linear() -> None:
    found = picture((-1200, -100, -800, 100, -400), 1.0)
    lefts = [MARGIN + number * (SIZE + MARGIN) + SIZE // 2 for number in range(3)]
    tops = [MARGIN + CAPTION, 2 * (MARGIN + CAPTION) + 12]  # 3 slices of 2 mm are 12 pixels high
    for top in tops:
        assert found[top : top + 12 : 4, lefts[0]].tolist() == greys(*LEVELS[::-1])
        after, linear = (found[top : top + 10 : 2, left].tolist() for left in lefts[1:])
        assert after == greys(-400, 100, -800, -100, -1200)
        assert linear == greys(-400, -600, -800, -1000, -1200)
    axial = tops[1] + 12 + MARGIN + CAPTION
    assert len(found) == axial + SIZE + MARGIN
    new = [int(found[axial + SIZE // 2, left]) for left in lefts]
    assert new in (greys(-1200, -100, -1000), greys(-800, 100, -600))


def test_a_copy_has_no_new_slice() -> None:
    found = picture(LEVELS, 2.0)
    assert len(found) == 2 * (MARGIN + CAPTION + 12) + MARGIN


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_image_with_other_signs_gives_the_same_picture(axis: int) -> None:
    """As NIfTI has them: neither upside down nor with left and right exchanged."""
    values = np.random.default_rng(1).integers(-1000, 400, (5, 13, 11)).astype(np.int16)
    after = sitk.GetImageFromArray(values)
    flipped = sitk.Flip(after, [a == axis for a in range(3)])
    shown = None if axis < 2 else -(MARGIN + 36 * 13)  # of two new slices, the other one is shown
    pictures = []
    for image in (after, flipped):
        before = image[:, :, ::2]
        png = preview_png(Volume(before, 2, "ct"), image, make_grid(3, 2.0, 1.0))
        pictures.append(np.asarray(Image.open(BytesIO(png)))[:shown])
    assert flipped.GetDirection() != after.GetDirection()
    assert np.array_equal(pictures[0], pictures[1])
