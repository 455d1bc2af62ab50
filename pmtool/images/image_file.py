"""Reading and writing images through ITK, with one-sentence errors and no half-written files."""

from __future__ import annotations

import math
from pathlib import Path

import SimpleITK as sitk

from pmtool.errors import (
    ContentError,
    GeometryError,
    InputError,
    OutputError,
    is_memory_shortage,
)
from pmtool.images.headers import Declared, declared
from pmtool.images.names import image_suffix, mixed_case, plain_name
from pmtool.images.nifti import NIFTI, check_transforms, rescaled
from pmtool.images.silence import permit_skewed_nifti, quiet_itk
from pmtool.system.files import move_into_place, temporary_beside
from pmtool.system.limits import check_input


def read_image(path: Path, *, allow_large: bool = False) -> sitk.Image:
    """Read a scalar 3-D image from an NRRD, NIfTI or MetaImage file.

    Parameters
    ----------
    allow_large
        Accept images larger than `pmtool.system.limits.MAX_INPUT`.

    Raises
    ------
    InputError
        If the file is missing, truncated, not an image, or takes its voxels from elsewhere.
    MemoryBudgetError
        If it is too large; this is found before anything is allocated.
    GeometryError
        If it is not three-dimensional, has no spacing or sheared axes.
    ContentError
        If it has several values per voxel.
    """
    if not path.is_file():
        problem = "is a folder, not an image file" if path.is_dir() else "does not exist"
        raise InputError(
            f"{path} {problem}; give a NRRD, NIfTI or MetaImage file, or a DICOM folder"
        )
    if mixed := mixed_case(path):
        raise InputError(mixed)
    with quiet_itk():
        reader, claim = open_header(path)
        _check_header(path, reader, claim)
        check_input(str(path), claim.bytes, allow_large=allow_large)
        claim.check_complete()
        try:
            image: sitk.Image = reader.Execute()
        except RuntimeError as error:
            if is_memory_shortage(error):
                raise
            raise _unreadable(path) from error
    if reader.GetImageIO() == NIFTI:
        check_transforms(path, reader)
        image = rescaled(image, reader)
    while image.GetDimension() > 3:
        image = image[..., 0]
    return without_vectors(image)


def without_vectors(image: sitk.Image) -> sitk.Image:
    """The image, with vectors of a single value turned into plain voxels.

    Raises
    ------
    ContentError
        If it is a label map, for which ITK's functions end the process.
    """
    if "label" in image.GetPixelIDTypeAsString():
        raise ContentError("the image is a label map; give it as an image of voxels")
    if image.GetNumberOfComponentsPerPixel() == 1 and "vector" in image.GetPixelIDTypeAsString():
        image = sitk.VectorIndexSelectionCast(image)
    return image


def write_image(image: sitk.Image, path: Path) -> None:
    """Write all of an image or nothing, compressed; raises `OutputError`.

    The files are written to a folder beside their destination and moved into place, a header after
    its data. ITK knows most suffixes only in lower case. Header entries such as 3D Slicer's are
    written only to NRRD, because long ones in MetaImage cannot be read back.
    """
    plain = plain_name(path)
    if image_suffix(path) != ".nrrd" and image.GetMetaDataKeys():
        image = sitk.Image(image)
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
    try:
        with temporary_beside(path) as folder:
            folder.mkdir()
            with quiet_itk():
                sitk.WriteImage(image, str(folder / plain), useCompression=True)
            _, claim = declared(folder / plain)
            claim.check_complete()
            for file in sorted(folder.iterdir(), key=lambda file: file.name == plain):
                move_into_place(file, path if file.name == plain else path.with_name(file.name))
    except (OSError, RuntimeError, InputError) as error:
        if is_memory_shortage(error):
            raise
        raise OutputError(f"{path} cannot be written: {_reason(error)}") from error


def open_header(path: Path) -> tuple[sitk.ImageFileReader, Declared]:
    """Return a reader that has read the header, and the header's claims; call within `quiet_itk`.

    NIfTI cosines that ITK refuses are repaired.

    Raises
    ------
    InputError
        If it is damaged, or claims more than the file can hold.
    """
    library, claim = declared(path)
    claim.check_plausible()
    reader = sitk.ImageFileReader()
    reader.SetImageIO(library)
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" not in str(error):
            raise _unreadable(path) from error
        permit_skewed_nifti()
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            raise _unreadable(path) from error
    return reader, claim


def _check_header(path: Path, reader: sitk.ImageFileReader, claim: Declared) -> None:
    if reader.GetNumberOfComponents() > 1:
        raise ContentError(
            f"{path} holds {reader.GetNumberOfComponents()} values a voxel (colour, vectors or "
            "overlapping segments); give an image with one"
        )
    size = reader.GetSize()
    if len(size) < 3 or any(n > 1 for n in size[3:]):
        example = ", such as image[:, :, :, 0] in SimpleITK" if len(size) > 3 else ""
        raise GeometryError(
            f"{path} has {len(size)} dimensions ({' x '.join(map(str, size))}); "
            f"give one volume of three{example}"
        )
    if math.prod(size) != math.prod(claim.size):
        raise _unreadable(path)
    if claim.spacing_fault:
        raise GeometryError(f"the header of {path} {claim.spacing_fault}")


def _unreadable(path: Path) -> InputError:
    return InputError(
        f"{path} is truncated, damaged or not an image that ITK can read; copy it again or write "
        "it with another program"
    )


def _reason(error: Exception) -> str:
    """One line from an exception; ITK's span many."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "ITK could not write it; is the disk full?"
