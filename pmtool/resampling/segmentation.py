"""Resampling of a mask onto the grid of its resampled volume."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.choices import MaskInterpolation
from pmtool.errors import ContentError, GeometryError
from pmtool.geometry.grid import Grid, OutputSlice
from pmtool.images.reading import DEFAULT, ReadingOptions
from pmtool.images.turning import turned
from pmtool.images.volume import Volume
from pmtool.loading import load_volume
from pmtool.resampling.shapes import labels_between

_HALF = 1e-6
_SEGMENT_ENTRY = re.compile(
    r"Segment\d+_(?!Extent$).*"
    r"|Segmentation_(Master|Source)Representation|Segmentation_ContainedRepresentationNames"
)


def load_mask(path: Path, volume: Volume, reading: ReadingOptions = DEFAULT) -> Volume:
    """Load the mask of a volume, with exactly its geometry; ``reading`` is that of the volume.

    Axes in another order or with other signs, as from dcm2niix, are turned to the volume's.
    Slices of an uneven volume correspond one to one, whatever spacing the mask's file gives.

    Raises
    ------
    ContentError
        If its voxels are not whole numbers or are negative.
    GeometryError
        If it lies on another grid than the volume.
    """
    image = load_volume(path, replace(reading.for_others, allow_uneven=True)).image
    image = turned(image, volume.image)
    different = volume.grid_differences(image, [len(volume.slices)])
    if different:
        raise GeometryError(
            f"{path} lies on another grid than {volume.name}, of other {' and '.join(different)}; "
            "resample it there"
        )
    image.CopyInformation(volume.image)
    mask = Volume(image, volume.axis, str(path), volume.positions)
    if mask.dtype.kind not in "iu" and not all(map(_is_whole, mask.slices)):
        raise ContentError(f"{path} has {mask.dtype} voxels; a mask has integers")
    if mask.slices.min() < 0:
        raise ContentError(f"{path} has negative voxels, like a CT; a mask has labels above 0")
    return mask


def resample_mask(
    mask: Volume, grid: Grid, interpolation: MaskInterpolation = "nearest"
) -> sitk.Image:
    """Resample the labels of a mask onto another grid along its slices.

    3D Slicer's NRRD entries on segments, such as names, are kept, except for those on the grid.

    Parameters
    ----------
    mask
        Mask of labels.
    grid
        Grid of the resampled volume.
    interpolation
        How labels are interpolated along the axis. ``nearest`` and ``linear`` (thresholded at 0.5)
        differ only midway between two slices. There, ``nearest`` takes the first slice, and
        ``linear`` labels every voxel that either slice labels, preferring the first slice's label.
        ``shape`` interpolates between outlines; see `pmtool.resampling.shapes`.
    """
    image = mask.empty_on(grid)
    for key in mask.image.GetMetaDataKeys():
        if _SEGMENT_ENTRY.fullmatch(key):
            image.SetMetaData(key, mask.image.GetMetaData(key))
    for index, output in enumerate(grid.slices):
        mask.put_slice(image, index, _labels(mask, output, interpolation))
    return image


def _labels(mask: Volume, output: OutputSlice, interpolation: MaskInterpolation) -> NDArray[Any]:
    last = len(mask.slices) - 1
    position = min(max(output.position, 0.0), float(last))
    lower = math.floor(position)
    share = position - lower
    if not share or (interpolation != "shape" and abs(share - 0.5) > _HALF):
        return np.ascontiguousarray(mask.slices[round(position)])
    one, other = mask.slices[lower], mask.slices[lower + 1]
    if interpolation == "shape":
        spacing = tuple(s for i, s in enumerate(mask.image.GetSpacing()) if i != mask.axis)
        return labels_between(one, other, share, spacing)
    if interpolation == "linear":
        return np.asarray(np.where(one != 0, one, other))
    return np.ascontiguousarray(one)


def _is_whole(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())
