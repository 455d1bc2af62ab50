"""Loading a volume from an image file, DICOM files or an image in memory."""

from __future__ import annotations

import math
from numbers import Real
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from pmtool.dicom import require_pydicom
from pmtool.dicom.files import is_dicom
from pmtool.errors import ContentError, GeometryError, UsageError
from pmtool.geometry.directions import orthonormal
from pmtool.geometry.nodes import EVEN
from pmtool.images.hounsfield import check_hounsfield
from pmtool.images.image_file import read_image, without_vectors
from pmtool.images.made import made_slices
from pmtool.images.names import image_suffix
from pmtool.images.reading import DEFAULT, ReadingOptions
from pmtool.images.volume import Volume, through_plane_axis

_UNEVEN = "ITK_non_uniform_sampling_deviation"


def load_ct(source: str | Path | sitk.Image, reading: ReadingOptions = DEFAULT) -> Volume:
    """Load a volume in HU; raises the errors of `load_volume` and `check_hounsfield`."""
    volume = load_volume(source, reading)
    check_hounsfield(volume, reading)
    return volume


def load_volume(source: str | Path | sitk.Image, reading: ReadingOptions = DEFAULT) -> Volume:
    """Load a volume from a file, a folder or zip of DICOM files, or an image.

    Its voxels may be anything, such as labels; see `load_ct`.

    Parameters
    ----------
    source
        What to load; see docs/formats.md.
    reading
        Options; ``assume_hu`` is ignored.

    Raises
    ------
    UsageError
        If there is no such series, pydicom is missing, or the thickness is not a positive number.
    InputError
        If a file cannot be read.
    MemoryBudgetError
        If there are too many voxels for the memory, or more than are read without ``allow_large``.
    GeometryError
        If it is not three-dimensional, or has a single slice or sheared axes; if DICOM files form
        several series, or no stack of slices.
    ContentError
        If it has several values per voxel.
    """
    if not isinstance(source, str | Path | sitk.Image):
        raise UsageError(
            f"{type(source).__name__} is not an input; give a path or a SimpleITK image"
        )
    _check_thickness(reading.thickness)
    if source == "":
        raise UsageError("the path of the input is empty; give a file, a folder or a zip")
    if not isinstance(source, sitk.Image) and _is_dicom(Path(source)):
        require_pydicom()
        from pmtool.dicom.load import load_series

        return load_series(Path(source), reading)
    if reading.series_uid is not None:
        raise UsageError("only DICOM has series; leave --series-uid out")
    if isinstance(source, sitk.Image):
        image, name = without_vectors(source), "the image"
    else:
        image, name = read_image(Path(source), allow_large=reading.allow_large), str(source)
    _check_shape(image, name)
    axis = through_plane_axis(image.GetSpacing())
    if not reading.allow_uneven:
        _check_even(image, axis, name, reading)
    image = _with_right_angles(image, name)
    made: tuple[int, ...] = ()
    if not isinstance(source, sitk.Image):
        made = made_slices(Path(source), image.GetSize()[axis])
    return Volume(image, axis, name, known_thickness=reading.thickness, made=made)


def _check_thickness(thickness: float | None) -> None:
    if thickness is None or (isinstance(thickness, Real) and 0 < thickness < math.inf):
        return
    raise UsageError(f"{thickness!r} is not a thickness of a slice; give a number of mm")


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
    if not np.isfinite((*image.GetOrigin(), *image.GetDirection())).all():
        raise GeometryError(f"origin or direction of {name} are not finite; correct its header")
    if min(size) < 2:
        raise GeometryError(
            f"{name} has a single slice ({' x '.join(map(str, size))}); "
            "slices can only be made between two others"
        )


def _check_even(image: sitk.Image, axis: int, name: str, reading: ReadingOptions) -> None:
    """Refuse an image that, by ITK's own note, was made from an uneven DICOM series."""
    try:
        off = float(image.GetMetaData(_UNEVEN)) if image.HasMetaDataKey(_UNEVEN) else 0.0
    except ValueError:  # a note of another kind
        return
    if off > EVEN * image.GetSpacing()[axis]:
        remedy = "give their DICOM files, or take them as even by --allow-uneven"
        if "allow_uneven" in reading.unadvised:
            remedy = "give an even stack"
        raise GeometryError(
            f"{name} was made of slices at uneven distances ({off:.3g} mm off); {remedy}"
        )


def _with_right_angles(image: sitk.Image, name: str) -> sitk.Image:
    """The image, or a copy with repaired directions (only the header: ITK shares the voxels)."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    repaired = orthonormal(direction, name)
    if repaired is direction:
        return image
    image = sitk.Image(image)
    image.SetDirection(repaired.ravel().tolist())
    return image
