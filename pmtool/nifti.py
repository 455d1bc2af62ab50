"""What a NIfTI header says and ITK passes over."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from pmtool.errors import GeometryError

NIFTI = "NiftiImageIO"
"""ITK's reader."""
_LPS = np.array([-1.0, -1.0, 1.0])
"""Turns NIfTI's RAS into ITK's LPS."""
_NEAR = 0.02
"""Difference of transforms, in voxels, that repairs and rounding explain."""
_INTEGERS = {2, 4, 8, 256, 512, 768}
"""Codes of the integer types of up to 32 bits."""
_EXACT = 2**24
"""Largest integer up to which all are float32 numbers."""


def check_transforms(path: Path, reader: sitk.ImageFileReader) -> None:
    """Compare the sform with what ITK makes of a header: pixdim, and one transform of two.

    Raises
    ------
    GeometryError
        If pixdim and sform give different spacings.

    Warns
    -----
    UserWarning
        If qform and sform place the volume differently and the qform was taken.
    """
    if int(reader.GetMetaData("sform_code")) <= 0:
        return
    sform = np.array([reader.GetMetaData(f"srow_{axis}").split() for axis in "xyz"], dtype=float)
    lengths = np.linalg.norm(sform[:, :3], axis=0)
    spacing = np.array(reader.GetSpacing()[:3])
    if not np.allclose(lengths, spacing, rtol=1e-3):
        told = (" x ".join(f"{x:g}" for x in values) for values in (spacing, lengths))
        raise GeometryError(
            f"{path} gives two spacings, {next(told)} mm as pixdim and {next(told)} mm in its "
            "sform; mend its header"
        )
    dimensions = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(dimensions, dimensions)[:3, :3]
    taken = np.column_stack([direction * spacing, reader.GetOrigin()[:3]]) * _LPS[:, None]
    if not np.allclose(taken, sform, rtol=1e-3, atol=_NEAR * spacing.min()):
        warnings.warn(
            f"the qform and the sform of {path} place it differently; the qform is taken",
            stacklevel=2,
        )


def whole_numbers(image: sitk.Image, reader: sitk.ImageFileReader) -> sitk.Image:
    """The image, as integers where it was stored as integers with a whole slope and intercept.

    ITK makes float32 of all that is scaled.
    """
    slope, intercept = (float(reader.GetMetaData(f"scl_{x}")) for x in ("slope", "inter"))
    scaled = image.GetPixelID() == sitk.sitkFloat32
    stored = int(reader.GetMetaData("datatype"))
    if not scaled or stored not in _INTEGERS or not (slope % 1 == intercept % 1 == 0):
        return image
    extremes = sitk.MinimumMaximumImageFilter()
    extremes.Execute(image)
    low, high = extremes.GetMinimum(), extremes.GetMaximum()
    if not max(-low, high) <= _EXACT:
        return image
    small = max(-low - 1, high) < 2**15
    integers: sitk.Image = sitk.Cast(image, sitk.sitkInt16 if small else sitk.sitkInt32)
    return integers
