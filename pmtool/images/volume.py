"""A CT volume: a stack of slices in HU with its place in space.

ITK's conventions hold: axes are x, y, z in this order for sizes, spacings (mm) and directions,
and positions are LPS.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.dicom import require_pydicom
from pmtool.dicom.files import is_dicom
from pmtool.errors import ContentError, GeometryError, UsageError
from pmtool.geometry.directions import orthonormal
from pmtool.geometry.grid import Grid
from pmtool.images.image_file import image_suffix, read_image

_SAME = 1e-3
"""Relative difference below which two spacings are the same."""
_UNEVEN = "ITK_non_uniform_sampling_deviation"
_UNEVEN_SHARE = 0.1
"""Of a slice distance: as little unevenness is passed over, as in DICOM."""


class _Voxels:
    """What NumPy makes a view of that keeps its image alive, as SimpleITK's own does not."""

    def __init__(self, image: sitk.Image) -> None:
        self.image = image
        self.__array_interface__ = sitk.GetArrayViewFromImage(image).__array_interface__


@dataclass(frozen=True)
class Volume:
    """An image whose slices lie along one of its axes.

    Attributes
    ----------
    image
        Scalar and three-dimensional; it owns the voxels.
    axis
        ITK's axis through the planes.
    name
        For messages.
    positions
        Of the slices, mm after the first one and increasing, where they are uneven; the image's
        spacing is then their median distance. None where they are even.
    headers
        Of the slices, pydicom's data sets without pixels, where they come from DICOM.
    """

    image: sitk.Image
    axis: int
    name: str
    positions: tuple[float, ...] | None = None
    headers: tuple[Any, ...] | None = None

    @cached_property
    def slices(self) -> NDArray[Any]:
        """The voxels, slices first: a read-only view ``(slices, H, W)``."""
        return np.moveaxis(np.asarray(_Voxels(self.image)), 2 - self.axis, 0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the voxels."""
        return self.slices.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """``(H, W)`` of a slice."""
        _, height, width = self.slices.shape
        return height, width

    @property
    def spacing(self) -> float:
        """Between slices, mm; the median where they are uneven."""
        return float(self.image.GetSpacing()[self.axis])

    @property
    def direction(self) -> NDArray[np.float64]:
        """``(3, 3)``, a unit vector of every axis in a column."""
        return np.array(self.image.GetDirection()).reshape(3, 3)

    def digest(self) -> str:
        """SHA-256 of type, geometry and voxels: the same for every file format."""
        hasher = hashlib.sha256(self.dtype.str.encode())
        geometry = self.image.GetSpacing() + self.image.GetOrigin() + self.image.GetDirection()
        hasher.update(np.array((*self.image.GetSize(), *geometry), dtype="<f8").data)
        hasher.update(sitk.GetArrayViewFromImage(self.image).data)
        hasher.update(np.array(self.positions or (), dtype="<f8").data)
        return hasher.hexdigest()

    def empty_on(self, grid: Grid, pixel_type: int | None = None) -> sitk.Image:
        """An image of zeros with the grid's slices, of the volume's type where none is given."""
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


def load_volume(
    source: str | Path | sitk.Image,
    series_uid: str | None = None,
    allow_uneven: bool = False,
    allow_large: bool = False,
) -> Volume:
    """A volume from a file, a folder or zip of DICOM files, or an image.

    Parameters
    ----------
    source
        See docs/formats.md.
    series_uid
        Which series of several, in DICOM.
    allow_uneven
        Take slices whose distances differ: where they lie in DICOM, as even in other images.
    allow_large
        Read more than `pmtool.system.limits.MAX_INPUT`.

    Raises
    ------
    UsageError
        If there is no such series, or pydicom is missing.
    InputError
        If a file cannot be read.
    GeometryError
        If it is not three-dimensional, has a single slice or sheared axes; if DICOM files are
        several series, or no stack of slices.
    ContentError
        If it has several values a voxel.
    """
    if not isinstance(source, sitk.Image) and _is_dicom(Path(source)):
        require_pydicom()
        from pmtool.dicom.load import load_series

        return load_series(Path(source), series_uid, allow_uneven, allow_large)
    if series_uid is not None:
        raise UsageError("only DICOM has series; leave --series-uid out")
    if isinstance(source, sitk.Image):
        image, name = source, "the image"
    else:
        image, name = read_image(Path(source), allow_large=allow_large), str(source)
    _check_shape(image, name)
    axis = through_plane_axis(image.GetSpacing())
    if not allow_uneven:
        _check_even(image, axis, name)
    return Volume(_with_right_angles(image, name), axis, name)


def through_plane_axis(spacing: tuple[float, ...]) -> int:
    """The axis that slices are stacked along.

    Pixels are square: where two spacings agree it is the third axis. Else it is the axis with
    the coarsest spacing; where that does not decide either, the last one.
    """
    for axis in (2, 1, 0):
        one, other = (s for i, s in enumerate(spacing) if i != axis)
        if same_spacing(one, other):
            return axis
    return max((2, 1, 0), key=lambda axis: spacing[axis])


def plane_name(volume: Volume, axis: int) -> str:
    """What the planes perpendicular to an ITK axis are called: sagittal, coronal or axial."""
    return ("sagittal", "coronal", "axial")[int(np.abs(volume.direction[:, axis]).argmax())]


def _is_dicom(path: Path) -> bool:
    if path.is_dir() or path.suffix.lower() == ".zip":
        return True
    return image_suffix(path) is None and path.is_file() and is_dicom(path)


def _check_shape(image: sitk.Image, name: str) -> None:
    if image.GetDimension() != 3:
        raise GeometryError(f"{name} has {image.GetDimension()} dimensions; give a volume of three")
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ContentError(f"{name} has several values a voxel (colour or vectors); a CT has one")
    spacing, size = image.GetSpacing(), image.GetSize()
    if not all(np.isfinite(s) and s > 0 for s in spacing):
        raise GeometryError(f"the spacing of {name} is {spacing} mm; it must be positive")
    if min(size) < 2:
        raise GeometryError(
            f"{name} has a single slice ({' x '.join(map(str, size))}); "
            "slices can only be made between two others"
        )


def _check_even(image: sitk.Image, axis: int, name: str) -> None:
    """ITK makes even stacks of uneven DICOM series and leaves a note in the image."""
    try:
        off = float(image.GetMetaData(_UNEVEN)) if image.HasMetaDataKey(_UNEVEN) else 0.0
    except ValueError:  # a note of another kind
        return
    if off > _UNEVEN_SHARE * image.GetSpacing()[axis]:
        raise GeometryError(
            f"{name} was made of slices at uneven distances ({off:.3g} mm off); give their DICOM "
            "files, or take them as even by --allow-uneven"
        )


def _with_right_angles(image: sitk.Image, name: str) -> sitk.Image:
    """The image, or a copy (of the header: ITK shares the voxels) with repaired directions."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    repaired = orthonormal(direction, name)
    if repaired is direction:
        return image
    image = sitk.Image(image)
    image.SetDirection(repaired.ravel().tolist())
    return image


def same_spacing(one: float, other: float) -> bool:
    """Whether two spacings differ by rounding alone."""
    return abs(one - other) <= _SAME * max(abs(one), abs(other))
