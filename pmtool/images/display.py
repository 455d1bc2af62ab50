"""Display of HU as grey values, and pictures as PNG."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

HU_WINDOW = (-1000, 400)
"""HU from black to white: the window for lung and soft tissue in which slices are compared."""
LUNG_WINDOW = (-1350.0, 150.0)
"""HU from black to white: the usual lung window."""


def grey(values: NDArray[Any], window: tuple[float, float] = LUNG_WINDOW) -> NDArray[np.uint8]:
    """Grey values of HU, black at the window's lower end."""
    low, high = window
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.asarray(np.rint(scaled.clip(0, 255)), np.uint8)


def png(picture: Image) -> bytes:
    """A picture as the content of a PNG file."""
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
