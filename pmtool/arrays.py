"""Names for the array types that modules exchange."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Slice = NDArray[np.int16]
"""``(H, W)`` HU."""
