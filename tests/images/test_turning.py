"""Turning images to the axes of others; see also the tests of masks and of other tools' volumes."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from pmtool.images.turning import turned


def oblique(ct: sitk.Image, degrees: float) -> sitk.Image:
    """A copy that is turned about x."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    image = sitk.Image(ct)
    image.SetDirection((1, 0, 0, 0, cosine, -sine, 0, sine, cosine))
    return image


def test_rounding_turns_no_oblique_image(ct: sitk.Image) -> None:
    """Even where no axis is nearer to one anatomical direction than to another."""
    image, other = oblique(ct, 45 - 1e-6), oblique(ct, 45 + 1e-6)
    assert turned(image, other) is image


def test_axes_midway_between_others_are_not_turned(ct: sitk.Image) -> None:
    other = sitk.Image(ct)
    other.SetDirection([x / 3 for x in (2, -1, 2, 2, 2, -1, -1, 2, 2)])
    assert turned(ct, other) is ct
