"""Information in NIfTI headers that ITK ignores."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from pmtool.errors import GeometryError
from pmtool.geometry.directions import check_angles, orthonormal

NIFTI = "NiftiImageIO"
"""Name of ITK's reader."""
_LPS = np.array([-1.0, -1.0, 1.0])
"""Factors that turn NIfTI's RAS into ITK's LPS."""
_NEAR = 0.02
"""Difference of two origins, in voxels, that rounding can explain."""
_TURNED = 1e-3
"""Difference of two directions that rounding, of the qform's quaternion, can explain."""
_SCANNER = 1
"""Code of a transform to the scanner's coordinates."""
_UNITS = {1: "metres", 3: "micrometres"}
"""Units of length other than mm, by the lowest bits of ``xyzt_units``."""
_INTEGERS = {2, 4, 8, 256, 512, 768}
"""Codes of the integer types of up to 32 bits."""
_FLOATS = (sitk.sitkFloat32, sitk.sitkFloat64)
_EXACT = 2**24
"""Largest integer up to which float32 represents all integers exactly."""


def check_transforms(path: Path, reader: sitk.ImageFileReader) -> None:
    """Compare the sform with what ITK uses from the header: pixdim and one of the two transforms.

    Raises
    ------
    GeometryError
        If pixdim and sform give different spacings, the sform's unit is not mm, or its axes are
        sheared and it is used or leads to the scanner's coordinates.

    Warns
    -----
    UserWarning
        If slightly skewed axes were repaired, qform and sform place the volume differently and
        the qform was used, or there is neither.
    """
    code = int(reader.GetMetaData("sform_code"))
    if code <= 0:
        if int(reader.GetMetaData("qform_code")) <= 0:
            warnings.warn(
                f"{path} does not say where it lies or how it is turned (qform_code and sform_code "
                "are 0); axes to the left, posterior and superior from an origin of 0 are assumed, "
                "and stated in outputs",
                stacklevel=2,
            )
        return
    unit = _UNITS.get(int(reader.GetMetaData("xyzt_units")) & 7)
    if unit is not None:  # ITK heeds the unit for pixdim but not for the sform
        raise GeometryError(f"{path} gives lengths in {unit}; write the file again in mm")
    sform = np.array([reader.GetMetaData(f"srow_{axis}").split() for axis in "xyz"], dtype=float)
    lengths = np.linalg.norm(sform[:, :3], axis=0)
    axes = sform[:, :3] / np.where(lengths > 0, lengths, 1)
    repaired = reader.GetMetaData("ITK_sform_corrected") == "YES"
    if lengths.all() and (repaired or code == _SCANNER):
        check_angles(axes, str(path))
    spacing = np.array(reader.GetSpacing()[:3])
    if not np.allclose(lengths, spacing, rtol=1e-3):
        texts = (" x ".join(f"{x:g}" for x in values) for values in (spacing, lengths))
        raise GeometryError(
            f"{path} gives two spacings, {next(texts)} mm as pixdim and {next(texts)} mm in its "
            "sform; mend its header"
        )
    if repaired:  # and taken, because there is no qform
        orthonormal(axes, str(path))
        return
    dimensions = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(dimensions, dimensions)[:3, :3]
    turned = np.abs(direction * _LPS[:, None] - axes).max()
    moved = np.abs(np.array(reader.GetOrigin()[:3]) * _LPS - sform[:, 3])
    near = 1e-5 * np.abs(sform[:, 3]) + _NEAR * spacing.min()
    if turned > _TURNED or (moved > near).any():
        warnings.warn(
            f"the qform and the sform of {path} place it differently; the qform is taken",
            stacklevel=2,
        )


def rescaled(image: sitk.Image, reader: sitk.ImageFileReader) -> sitk.Image:
    """The image with the values that its header intends, as integers if they are whole.

    ITK converts all scaled values to float32, and adds the intercept even if a slope of 0 says
    that the values are not scaled.
    """
    slope, intercept = (float(reader.GetMetaData(f"scl_{x}")) for x in ("slope", "inter"))
    if slope == 0 or math.isnan(slope):
        if math.isfinite(intercept) and intercept:
            image = image - intercept
        slope, intercept = 1, 0
    if int(reader.GetMetaData("datatype")) not in _INTEGERS or image.GetPixelID() not in _FLOATS:
        return image
    extremes = sitk.MinimumMaximumImageFilter()
    extremes.Execute(image)
    low, high = extremes.GetMinimum(), extremes.GetMaximum()
    if slope % 1 or intercept % 1 or not max(-low, high) <= _EXACT:
        return image
    small = max(-low - 1, high) < 2**15
    integers: sitk.Image = sitk.Cast(image, sitk.sitkInt16 if small else sitk.sitkInt32)
    return integers
