"""Picture of a volume before and after resampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.images.display import grey, png
from pmtool.images.volume import Volume, plane_name

if TYPE_CHECKING:
    from PIL import Image

_MARGIN = 8
_CAPTION = 16


def preview_png(before: Volume, after: sitk.Image) -> bytes:
    """The two middle planes across the slices, before and after side by side, as a PNG.

    Pixels are square in mm, and planes are magnified without smoothing so that slices stay
    distinguishable.
    """
    later = Volume(after, before.axis, before.name)
    rows = [
        [_panel(volume, axis, title) for volume, title in ((before, "before"), (later, "after"))]
        for axis in (0, 1, 2)
        if axis != before.axis
    ]
    return png(_tiled(rows))


def _panel(volume: Volume, axis: int, title: str) -> Image.Image:
    from PIL import Image, ImageDraw

    plane = _middle_plane(volume, axis)
    size = _size_in_pixels(volume, axis, plane.shape[1])
    picture = Image.fromarray(grey(plane)).resize(size, Image.Resampling.NEAREST)
    panel = Image.new("L", (size[0], size[1] + _CAPTION), 255)
    panel.paste(picture, (0, _CAPTION))
    caption = f"{plane_name(volume, axis)}, {title}, {volume.spacing:g} mm"
    ImageDraw.Draw(panel).text((2, 2), caption, fill=0)
    return panel


def _middle_plane(volume: Volume, axis: int) -> NDArray[Any]:
    """The plane ``(slices, width)`` in the middle of an axis, with the head upwards."""
    in_plane = [a for a in (2, 1, 0) if a != volume.axis]
    middle = volume.image.GetSize()[axis] // 2
    is_row = in_plane.index(axis) == 0
    plane = volume.slices[:, middle, :] if is_row else volume.slices[:, :, middle]
    if volume.positions is not None:
        plane = plane[_nearest_slices(volume.positions, volume.spacing)]
    upwards = volume.direction[2, volume.axis] > 0
    return plane[::-1] if upwards else plane


def _nearest_slices(positions: tuple[float, ...], spacing: float) -> NDArray[np.intp]:
    """The nearest slices to positions, eight per slice distance, to half of one beyond the ends."""
    places = np.arange(1 / 16, positions[-1] / spacing + 1, 1 / 8) * spacing - spacing / 2
    return np.searchsorted(np.convolve(positions, (0.5, 0.5), "valid"), places)


def _size_in_pixels(volume: Volume, axis: int, width: int) -> tuple[int, int]:
    (across,) = (a for a in (0, 1, 2) if a not in (axis, volume.axis))
    pixel = volume.image.GetSpacing()[across]
    zoom = max(1, round(400 / width))
    last = volume.positions[-1] if volume.positions else (len(volume.slices) - 1) * volume.spacing
    height = (last + volume.spacing) / pixel
    return width * zoom, max(round(height * zoom), 1)


def _tiled(rows: list[list[Image.Image]]) -> Image.Image:
    from PIL import Image

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
