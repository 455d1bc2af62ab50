"""Checks of a CT's voxels, and their conversion for the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.errors import ContentError
from pmtool.images.reading import DEFAULT, ReadingOptions
from pmtool.images.volume import Volume

CT_RANGE = (-1024, 3071)
"""HU to which slices are clipped before they are compared.

Splines overshoot below air, and pyradiomics counts grey levels from the lowest pixel of a region,
so that a single low pixel would shift all levels.
"""
_NO_AIR, _NO_BONE = -500, 1000
"""If all values lie above the first or below the second, they may have been cut off by a window."""
_CUT_SHARE = 0.01
_CUT_BELOW, _CUT_VOXELS = 100, 10_000
"""Width in HU of the range below the upper end with which the end's share is compared, and number
of voxels up to which shares mean nothing."""
_LARGEST = 2**17
"""HU beyond all metal and padding."""
_ADVICE = "; convert it, or pass --assume-hu (assume_hu=True) if it is"
_OTHER_ADVICE = "; convert it, or take it away if it is no CT"
_HU = ("HU", "HU_MOD", "US")
"""DICOM's terms for HU, modified HU and unspecified units."""
_NARROWEST, _NARROWEST_FLOAT = 2, 100
"""Integers with a smaller span are a mask; floats with a smaller span are normalised or in other
units."""


def check_hounsfield(volume: Volume, reading: ReadingOptions = DEFAULT) -> None:
    """Refuse voxels that are not HU.

    Parameters
    ----------
    volume
        CT to check.
    reading
        With ``assume_hu``, any finite numbers of more than 8 bits are accepted.

    Raises
    ------
    ContentError
        If voxels have 8 bits, or are complex, NaN or infinite; and, unless ``assume_hu``, if DICOM
        says that they are something else, or the range of the values shows another scale or a
        window already applied.
    """
    dtype = volume.dtype
    if dtype.kind not in "iuf" or dtype.itemsize < 2:
        raise ContentError(f"{volume.name} has {dtype} voxels, which cannot hold HU; is it a mask?")
    _check_finite(volume)
    if not reading.assume_hu:
        advice = _OTHER_ADVICE if "assume_hu" in reading.unadvised else _ADVICE
        _check_unit(volume, advice)
        _check_range(volume, advice)


def _check_finite(volume: Volume) -> None:
    """Raise `ContentError` if voxels are NaN or infinite."""
    if volume.dtype.kind == "f" and not all(np.isfinite(s).all() for s in volume.slices):
        raise ContentError(f"{volume.name} has NaN or infinite voxels; replace them by -1024")


def _check_unit(volume: Volume, advice: str) -> None:
    types = {str(header.get("RescaleType") or "HU") for header in volume.headers or ()}
    other = sorted(types - set(_HU))
    if other:
        raise ContentError(f"{volume.name} holds {other[0]}, not HU (RescaleType){advice}")


def _check_range(volume: Volume, advice: str) -> None:
    low = min(float(s.min()) for s in volume.slices)  # a difference of int16 could overflow
    high = max(float(s.max()) for s in volume.slices)
    message = f"{volume.name} cannot be in HU: its values lie in [{low:g}, {high:g}]"
    narrowest = _NARROWEST_FLOAT if volume.dtype.kind == "f" else _NARROWEST
    if low >= 0 or high - low <= narrowest or max(-low, high) > _LARGEST:
        raise ContentError(message + advice)
    if low > _NO_AIR and _share(volume, low, low) > _CUT_SHARE:
        raise ContentError(f"{message} and are cut off at the lower end{advice}")
    if high < _NO_BONE and volume.slices.size > _CUT_VOXELS:
        cut, below = _share(volume, high, high), _share(volume, high - _CUT_BELOW, high - 1)
        if cut > max(_CUT_SHARE, 10 * below / _CUT_BELOW):
            raise ContentError(f"{message} and are cut off at the upper end{advice}")


def _share(volume: Volume, low: float, high: float) -> float:
    """Share of the voxels that lie from ``low`` to ``high``."""
    count = sum(int(np.count_nonzero((s >= low) & (s <= high))) for s in volume.slices)
    return count / volume.slices.size


def for_network(values: NDArray[Any], hu_window: tuple[int, int]) -> NDArray[np.int16]:
    """A slice ``(H, W)`` clipped to ``hu_window``, rounded to integers and contiguous."""
    if values.dtype != np.int16:
        values = np.rint(np.clip(values, *hu_window))
    elif values.min() < hu_window[0] or values.max() > hu_window[1]:
        values = np.clip(values, *hu_window)
    return np.ascontiguousarray(values, dtype=np.int16)


def restore_padding(made: NDArray[Any], above: NDArray[Any], below: NDArray[Any], low: int) -> None:
    """Restore padding, in place, wherever both acquired neighbours have it.

    If the neighbours differ, the larger value is used.
    """
    outside = padding(above, low) & padding(below, low)
    made[outside] = np.maximum(above[outside], below[outside])


def padding(values: NDArray[Any], low: int) -> NDArray[np.bool_]:
    """Mask of the part of a slice ``(H, W)`` outside the field of view.

    Padding lies below ``low``, the lowest HU; in clipped scans it equals ``low``, in patches of at
    least 5x5 pixels.
    """
    lowest = sitk.GetImageFromArray((values <= low).astype(np.uint8))
    solid = sitk.BinaryMorphologicalOpening(lowest, (2, 2), sitk.sitkBox, 0, 1)
    return np.asarray((values < low) | sitk.GetArrayFromImage(solid).astype(np.bool_))


def to_voxels(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round HU to the nearest integer, in the type of a volume's voxels."""
    values = np.rint(values)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        values = np.clip(values, limits.min, limits.max)
    return values.astype(dtype)
