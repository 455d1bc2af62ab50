"""A CT volume: a stack of slices in HU with its position in space.

ITK's conventions apply: axes are x, y, z in this order for sizes, spacings (mm) and directions,
and positions are LPS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.geometry.grid import Grid
from pmtool.images.names import file_name

if TYPE_CHECKING:
    from pydicom import Dataset

_MADE = ("SYNTHESISED", "INTERPOLATED", "SHIFTED", "EXTRAPOLATED")
_SAME = 1e-3
"""Relative difference below which two spacings are the same."""


class _Voxels:
    """Array interface whose views keep their image alive, unlike those of SimpleITK."""

    def __init__(self, image: sitk.Image) -> None:
        self.image = image
        self.__array_interface__ = sitk.GetArrayViewFromImage(image).__array_interface__


@dataclass(frozen=True)
class Volume:
    """An image whose slices lie along one of its axes.

    Attributes
    ----------
    image
        Scalar three-dimensional image that owns the voxels.
    axis
        ITK axis perpendicular to the slices.
    name
        Name for messages.
    positions
        Positions of uneven slices, mm after the first one and increasing; the image's spacing is
        then their median distance. None if the slices are even.
    headers
        Headers of the slices, as pydicom data sets without pixels, if they come from DICOM.
    known_thickness
        Thickness of a slice, mm; None if unknown.
    made
        Indices of the slices of an image file that pmtool made.
    """

    image: sitk.Image
    axis: int
    name: str
    positions: tuple[float, ...] | None = None
    headers: tuple[Dataset, ...] | None = None
    known_thickness: float | None = None
    made: tuple[int, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of its file or folder, without parent folders, even if it was given as a dot."""
        return file_name(Path(self.name))

    @cached_property
    def slices(self) -> NDArray[Any]:
        """The voxels, slices first: a read-only view ``(slices, H, W)``."""
        return np.moveaxis(np.asarray(_Voxels(self.image)), 2 - self.axis, 0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self.slices.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Shape ``(H, W)`` of a slice."""
        _, height, width = self.slices.shape
        return height, width

    @property
    def spacing(self) -> float:
        """Slice spacing, mm; the median if the slices are uneven."""
        return float(self.image.GetSpacing()[self.axis])

    @property
    def thickness(self) -> float:
        """Thickness of a slice, mm; if unknown, slices are assumed to touch."""
        return self.known_thickness or self.spacing

    @property
    def direction(self) -> NDArray[np.float64]:
        """Direction cosines, ``(3, 3)``, with the unit vector of every axis in a column."""
        return np.array(self.image.GetDirection()).reshape(3, 3)

    @property
    def made_before(self) -> list[int]:
        """Indices of the slices that pmtool made; in a DICOM series, according to ImageType."""
        types = [header.get("ImageType") or [""] for header in self.headers or ()]
        return [*self.made] or [index for index, values in enumerate(types) if values[-1] in _MADE]

    @cached_property
    def every_second(self) -> Volume:
        """A copy of the first, third, ... slice of an even stack, as thick as before."""
        return replace(self.part(slice(None, None, 2)), known_thickness=self.thickness)

    def part(self, which: slice) -> Volume:
        """A copy of some slices of an even stack, without headers or a note of how it was made."""
        where = [slice(None)] * 3
        where[self.axis] = which
        return replace(self, image=self.image[tuple(where)], headers=None, made=())

    def grid_differences(self, image: sitk.Image, counts: Container[int]) -> list[str]:
        """Which of size, spacing, origin and direction differ in an image, beyond rounding.

        The image may have any number of slices in ``counts``. The spacing of uneven slices is not
        compared.
        """
        size, spacing = list(image.GetSize()), list(image.GetSpacing())
        if size[self.axis] in counts:
            size[self.axis] = len(self.slices)
        if self.positions is not None:
            spacing[self.axis] = self.spacing
        pairs = {
            "spacing": (self.image.GetSpacing(), spacing),
            "origin": (self.image.GetOrigin(), image.GetOrigin()),
            "direction": (self.image.GetDirection(), image.GetDirection()),
        }
        return [
            *(["size"] if tuple(size) != self.image.GetSize() else []),
            *(key for key, pair in pairs.items() if not np.allclose(*pair, rtol=1e-4, atol=1e-3)),
        ]

    def digest(self) -> str:
        """SHA-256 of type, geometry and voxels; the same for every file format."""
        hasher = hashlib.sha256(self.dtype.str.encode())
        geometry = self.image.GetSpacing() + self.image.GetOrigin() + self.image.GetDirection()
        hasher.update(np.array((*self.image.GetSize(), *geometry), dtype="<f8").data)
        hasher.update(sitk.GetArrayViewFromImage(self.image).data)
        hasher.update(np.array(self.positions or (), dtype="<f8").data)
        return hasher.hexdigest()

    def empty_on(self, grid: Grid, pixel_type: int | None = None) -> sitk.Image:
        """An image of zeros with the grid's slices, in the given type or that of the volume."""
        size = list(self.image.GetSize())
        size[self.axis] = len(grid.slices)
        image = sitk.Image(size, pixel_type or self.image.GetPixelID())
        spacing = list(self.image.GetSpacing())
        spacing[self.axis] = grid.spacing
        offset = self.direction[:, self.axis] * grid.first * grid.source_spacing
        image.SetSpacing(spacing)
        image.SetOrigin((np.array(self.image.GetOrigin()) + offset).tolist())
        image.SetDirection(self.image.GetDirection())
        return image

    def put_slice(self, image: sitk.Image, index: int, values: NDArray[Any]) -> None:
        """Set one slice ``(H, W)`` of an image with the same axes, in place."""
        where: list[slice | int] = [slice(None)] * 3
        where[self.axis] = index
        image[tuple(where)] = sitk.GetImageFromArray(values)


def through_plane_axis(spacing: tuple[float, ...]) -> int:
    """The axis that slices are stacked along.

    Pixels are assumed square: if two spacings agree, it is the remaining axis. Otherwise it is the
    axis with the coarsest spacing or, if that does not decide it either, the last one.
    """
    for axis in (2, 1, 0):
        one, other = (s for i, s in enumerate(spacing) if i != axis)
        if same_spacing(one, other):
            return axis
    return max((2, 1, 0), key=lambda axis: spacing[axis])


def plane_name(volume: Volume, axis: int) -> str:
    """Name of the planes perpendicular to an ITK axis: sagittal, coronal or axial."""
    return ("sagittal", "coronal", "axial")[int(np.abs(volume.direction[:, axis]).argmax())]


def same_spacing(one: float, other: float) -> bool:
    """Whether two spacings differ only by rounding."""
    return abs(one - other) <= _SAME * max(abs(one), abs(other))
