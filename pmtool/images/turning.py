"""Turning an image to the axes of another one."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray


def turned(image: sitk.Image, to: sitk.Image) -> sitk.Image:
    """The image with its axes in the order and with the signs of another one's.

    Its voxels keep their values and their places in space. An image that needs no turn is returned
    itself, as is one whose axes lie midway between those of the other.
    """
    cosines = _direction(to).T @ _direction(image)
    order = np.abs(cosines).argmax(axis=1).tolist()
    if sorted(order) != [0, 1, 2]:
        return image
    flips = [bool(cosines[axis, source] < 0) for axis, source in enumerate(order)]
    result = image
    if order != [0, 1, 2]:
        result = sitk.PermuteAxes(result, order)
    if any(flips):
        result = sitk.Flip(result, flips)
    if result is not image:
        for key in image.GetMetaDataKeys():
            result.SetMetaData(key, image.GetMetaData(key))
    return result


def _direction(image: sitk.Image) -> NDArray[np.float64]:
    return np.array(image.GetDirection()).reshape(3, 3)
