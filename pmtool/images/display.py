"""Display of HU as grey values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HU_WINDOW = (-1000, 400)
"""HU from black to white: the window for lung and soft tissue in which slices are compared."""
LUNG_WINDOW = (-1350.0, 150.0)
"""HU from black to white: the usual lung window."""


def grey(values: NDArray[Any], window: tuple[float, float] = LUNG_WINDOW) -> NDArray[np.uint8]:
    """Grey values of HU, black at the window's lower end."""
    low, high = window
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.asarray(np.rint(scaled.clip(0, 255)), np.uint8)
