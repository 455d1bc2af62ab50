"""Display of slices: upright, in grey values, as PNG."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pmtool.images.volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T", bound=np.generic)

SCORING_WINDOW = (-1000, 400)
"""HU from black to white: the window for lung and soft tissue in which slices are compared."""
LUNG_WINDOW = (-1350.0, 150.0)
"""HU from black to white: the usual lung window."""


def grey(values: NDArray[Any], window: tuple[float, float] = LUNG_WINDOW) -> NDArray[np.uint8]:
    """Grey values of HU, black at the window's lower end."""
    low, high = window
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.asarray(np.rint(scaled.clip(0, 255)), np.uint8)


def upright(plane: NDArray[T], volume: Volume, rows: int, columns: int) -> NDArray[T]:
    """A plane of a volume as usually displayed: head and front up, right and front to the left.

    ``rows`` and ``columns`` are the axes along which rows and columns follow each other.
    """
    steps = [-1 if _is_backwards(volume.direction[:, axis]) else 1 for axis in (rows, columns)]
    return plane[:: steps[0], :: steps[1]]


def upright_slice(values: NDArray[T], volume: Volume) -> NDArray[T]:
    """A slice ``(H, W)`` of a volume as usually displayed, see `upright`."""
    rows, columns = (axis for axis in (2, 1, 0) if axis != volume.axis)
    return upright(values, volume, rows, columns)


def _is_backwards(direction: NDArray[np.float64]) -> bool:
    """Whether an axis leads to the right or to the front (-x, -y) or to the head (+z)."""
    along = int(np.abs(direction).argmax())
    return bool((direction[along] > 0) == (along == 2))


def png(picture: Image) -> bytes:
    """A picture as the content of a PNG file."""
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
