"""Picture of a volume before and after resampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pmtool.geometry.grid import Grid
from pmtool.geometry.interpolation import weights
from pmtool.images.display import grey, png, upright, upright_slice
from pmtool.images.volume import Volume, plane_name

_MARGIN = 8
_CAPTION = 16
_WIDTH = 400
"""Least width of a plane in the picture, in pixels."""

Plane = NDArray[Any]


def preview_png(before: Volume, after: sitk.Image, grid: Grid) -> bytes:
    """Planes before and after, and as linear interpolation would make them, as a PNG.

    These are the middle planes across the slices and, if any slice is new, the new one in the
    middle beside the acquired slice before it. Pixels are square in mm, and planes are magnified
    without smoothing so that slices stay distinguishable.
    """
    later = Volume(after, before.axis, before.name)
    across = [axis for axis in (0, 1, 2) if axis != before.axis]
    rows = [_across(before, later, grid, axis) for axis in across]
    return png(_tiled([*rows, *_new_slice(before, later, grid)]))


def _across(before: Volume, later: Volume, grid: Grid, axis: int) -> list[Image.Image]:
    """Panels of the plane in the middle of an axis."""
    acquired = _middle_plane(before, axis)
    blended = np.stack([_linear(acquired, output.position) for output in grid.slices])
    if before.positions is not None:
        acquired = acquired[_nearest_slices(before.positions, before.spacing)]
    planes = {
        f"before, {before.spacing:g} mm": (before, acquired),
        f"after, {later.spacing:g} mm": (later, _middle_plane(later, axis)),
        f"linear, {later.spacing:g} mm": (later, blended),
    }
    name = plane_name(before, axis)
    (across,) = (a for a in (0, 1, 2) if a not in (axis, before.axis))
    return [
        _panel(
            upright(plane, volume, before.axis, across), f"{name}, {title}", _pixel(volume, axis)
        )
        for title, (volume, plane) in planes.items()
    ]


def _new_slice(before: Volume, later: Volume, grid: Grid) -> list[list[Image.Image]]:
    """A row of panels for the new slice nearest to the middle; empty if all slices are copies."""
    new = [index for index, output in enumerate(grid.slices) if not output.is_copy]
    if not new:
        return []
    index = min(new, key=lambda x: abs(x - len(grid.slices) / 2))
    output = grid.slices[index]
    planes = {
        "acquired slice before": before.slices[output.gap[0]],
        "new slice": later.slices[index],
        "linear": _linear(before.slices, output.position),
    }
    name, pixel = plane_name(before, before.axis), _pixel(before, before.axis)
    return [
        [
            _panel(upright_slice(plane, before), f"{name}, {title}", pixel)
            for title, plane in planes.items()
        ]
    ]


def _linear(slices: Plane, position: float) -> Plane:
    """What linear interpolation makes at a position, in slices after the first."""
    inside = min(max(position, 0.0), len(slices) - 1.0)
    one, other = weights(inside, len(slices), "linear")
    return np.asarray(one.share * slices[one.node] + other.share * slices[other.node])


def _panel(plane: Plane, caption: str, pixel: tuple[float, float]) -> Image.Image:
    """A plane whose pixels have a height and a width in mm, with a caption above it."""
    height, width = plane.shape
    zoom = max(1, round(_WIDTH / width))
    size = width * zoom, max(round(height * zoom * pixel[0] / pixel[1]), 1)
    picture = Image.fromarray(grey(plane)).resize(size, Image.Resampling.NEAREST)
    panel = Image.new("L", (size[0], size[1] + _CAPTION), 255)
    panel.paste(picture, (0, _CAPTION))
    ImageDraw.Draw(panel).text((2, 2), caption, fill=0)
    return panel


def _middle_plane(volume: Volume, axis: int) -> Plane:
    """The plane ``(slices, width)`` in the middle of an axis."""
    in_plane = [a for a in (2, 1, 0) if a != volume.axis]
    middle = volume.image.GetSize()[axis] // 2
    is_row = in_plane.index(axis) == 0
    return volume.slices[:, middle, :] if is_row else volume.slices[:, :, middle]


def _nearest_slices(positions: tuple[float, ...], spacing: float) -> NDArray[np.intp]:
    """The nearest slice at eight places per slice distance, to half of one beyond the ends."""
    places = np.arange(1 / 16, positions[-1] / spacing + 1, 1 / 8) * spacing - spacing / 2
    return np.searchsorted(np.convolve(positions, (0.5, 0.5), "valid"), places)


def _pixel(volume: Volume, axis: int) -> tuple[float, float]:
    """Height and width in mm of the pixels of a plane perpendicular to an axis."""
    spacing = volume.image.GetSpacing()
    if axis == volume.axis:
        rows, columns = (a for a in (2, 1, 0) if a != axis)
        return spacing[rows], spacing[columns]
    (across,) = (a for a in (0, 1, 2) if a not in (axis, volume.axis))
    height = volume.spacing / 8 if volume.positions is not None else volume.spacing
    return height, spacing[across]


def _tiled(rows: list[list[Image.Image]]) -> Image.Image:
    width = max(sum(p.width + _MARGIN for p in row) for row in rows) + _MARGIN
    heights = [max(p.height for p in row) + _MARGIN for row in rows]
    picture = Image.new("L", (width, sum(heights) + _MARGIN), 255)
    top = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        left = _MARGIN
        for panel in row:
            picture.paste(panel, (left, top))
            left += panel.width + _MARGIN
        top += height
    return picture
