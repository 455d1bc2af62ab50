"""The output grid that a request asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from pmtool.errors import GeometryError, UsageError
from pmtool.geometry.grid import Grid, check_spacing, make_grid, reference_grid, spacing_along
from pmtool.images.volume import Volume, same_spacing
from pmtool.loading import load_volume
from pmtool.resampling.options import Options

_FIRST_PIXEL, _LAST_PIXEL = 0.01, 0.05
"""How far, in pixels, the first and the last pixel of a reference may be off."""


def target_grid(volume: Volume, spacing: float | Sequence[float] | None, options: Options) -> Grid:
    """The slices that a spacing or ``options.reference`` asks for.

    Parameters
    ----------
    volume
        Input volume.
    spacing
        Slice spacing, mm; or x, y, z with 0 for "keep".
    options
        Options with the grid, reference and interpolator to use.

    Raises
    ------
    UsageError
        If neither or both are given, or the spacing is impossible.
    GeometryError
        If the reference differs from the input in more than its slices.
    """
    if (spacing is None) == (options.reference is None):
        raise UsageError(
            "give either a spacing between slices (--spacing) or a reference image (--reference)"
        )
    slices = volume.positions or len(volume.slices)
    if spacing is not None:
        slice_spacing = _through_plane(volume, spacing)
        return make_grid(slices, volume.spacing, slice_spacing, options.grid, options.interpolation)
    assert options.reference is not None
    first, slice_spacing, number = _reference_slices(volume, options.reference, options)
    return reference_grid(
        slices, volume.spacing, slice_spacing, first, number, options.interpolation
    )


def _reference_slices(
    volume: Volume, reference: str | Path | sitk.Image, options: Options
) -> tuple[float, float, int]:
    """First position and spacing (mm) and number of a reference's slices."""
    other = replace(load_volume(reference, options.for_others), axis=volume.axis)
    name = "the reference" if isinstance(reference, sitk.Image) else str(reference)
    if not np.allclose(other.direction, volume.direction, atol=1e-4):
        raise GeometryError(
            f"{name} has other directions than {volume.name}, as a flipped, sagittal or oblique "
            "image has; turn it to those of the input"
        )
    offset = np.array(other.image.GetOrigin()) - np.array(volume.image.GetOrigin())
    along = volume.direction.T @ offset
    in_plane = [axis for axis in range(3) if axis != volume.axis]
    pixels = np.array([volume.image.GetSpacing(), other.image.GetSpacing()])[:, in_plane]
    size = np.array(volume.image.GetSize())[in_plane]
    first = np.abs(along[in_plane])
    last = first + np.abs(pixels[1] - pixels[0]) * (size - 1)
    if not (
        other.shape == volume.shape
        and np.all(first <= _FIRST_PIXEL * pixels[0])
        and np.all(last <= _LAST_PIXEL * pixels[0])
    ):
        raise GeometryError(
            f"{name} has another in-plane grid than {volume.name}, in pixels, their spacing or "
            "their place; only the slices may differ"
        )
    return float(along[volume.axis]), other.spacing, len(other.slices)


def _through_plane(volume: Volume, spacing: float | Sequence[float]) -> float:
    """The spacing wanted between slices, mm."""
    try:
        values = np.ravel(spacing).astype(float).tolist()
    except (TypeError, ValueError) as error:
        raise UsageError(f"{spacing!r} is not a spacing; give a number of mm, or three") from error
    if len(values) == 1:
        return spacing_along(volume.axis, values, volume.spacing)
    check_spacing(values)
    for axis, (requested, present) in enumerate(
        zip(values, volume.image.GetSpacing(), strict=True)
    ):
        if axis != volume.axis and requested != 0 and not same_spacing(requested, present):
            raise UsageError(
                f"the spacing along {'xyz'[axis]} is {present:g} mm and stays so (give 0 or the "
                f"same, not {requested:g}); pmtool interpolates along {'xyz'[volume.axis]} only"
            )
    return spacing_along(volume.axis, values, volume.spacing)
