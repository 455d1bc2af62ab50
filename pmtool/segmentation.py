"""A mask on the grid of its resampled volume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.errors import ContentError, GeometryError
from pmtool.grid import Grid, OutputSlice
from pmtool.options import MaskInterpolation
from pmtool.volume import Volume, load_volume

_HALF = 1e-6


def load_mask(path: Path, volume: Volume) -> Volume:
    """A mask of a volume.

    Raises
    ------
    ContentError
        If its voxels are not integers.
    GeometryError
        If it lies on another grid than the volume.
    """
    mask = Volume(load_volume(path).image, volume.axis, str(path))
    if mask.dtype.kind not in "iu":
        raise ContentError(f"{path} has {mask.dtype} voxels; a mask has integers")
    if not _same_grid(mask.image, volume.image):
        raise GeometryError(f"{path} lies on another grid than {volume.name}; resample it there")
    return mask


def resample_mask(
    mask: Volume, grid: Grid, interpolation: MaskInterpolation = "nearest"
) -> sitk.Image:
    """The mask's labels on another grid along its slices.

    Parameters
    ----------
    mask
        Labels.
    grid
        Of the resampled volume.
    interpolation
        Of labels along one axis: ``nearest``, and ``linear`` thresholded at 0.5, differ midway
        between two slices alone. There ``nearest`` takes the first one, ``linear`` every voxel
        that has a label in either, the first one's where both have.
    """
    image = mask.empty_on(grid)
    for index, output in enumerate(grid.slices):
        mask.put_slice(image, index, _labels(mask, output, interpolation))
    return image


def _labels(mask: Volume, output: OutputSlice, interpolation: MaskInterpolation) -> NDArray[Any]:
    last = len(mask.slices) - 1
    position = min(max(output.position, 0.0), float(last))
    lower = math.floor(position)
    share = position - lower
    if abs(share - 0.5) > _HALF:
        return np.ascontiguousarray(mask.slices[round(position)])
    one, other = mask.slices[lower], mask.slices[lower + 1]
    if interpolation == "linear":
        return np.asarray(np.where(one != 0, one, other))
    return np.ascontiguousarray(one)


def _same_grid(one: sitk.Image, other: sitk.Image) -> bool:
    return one.GetSize() == other.GetSize() and all(
        np.allclose(a, b, rtol=1e-4, atol=1e-3)
        for a, b in (
            (one.GetSpacing(), other.GetSpacing()),
            (one.GetOrigin(), other.GetOrigin()),
            (one.GetDirection(), other.GetDirection()),
        )
    )
