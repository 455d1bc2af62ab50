"""Conversion between HU, ``2**bits`` grey levels and the network's pixels in [-1, 1].

Levels are evenly spaced over the model's HU window and over [-1, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmtool.models.hyperparameters import Hyperparameters

Levels = NDArray[np.int32]
Pixels = NDArray[np.float32]


def to_pixels(levels: ArrayLike, bits: int) -> Pixels:
    """Convert grey levels to pixels in [-1, 1], in single precision as in the pixel graph."""
    return np.asarray(np.asarray(levels, np.float32) * (2 / (2**bits - 1)) - 1)


def to_levels(pixels: ArrayLike, bits: int) -> Levels:
    """Convert pixels in [-1, 1] to the nearest grey levels."""
    return np.asarray(np.rint((np.asarray(pixels) + 1) / 2 * (2**bits - 1)), np.int32)


def hounsfield_levels(
    values: NDArray[np.int16], hyperparameters: Hyperparameters
) -> NDArray[np.uint16]:
    """Grey levels nearest to HU, which are clipped to the model's window."""
    low, high = hyperparameters.hu_window
    per_hu = (hyperparameters.levels - 1) / (high - low)
    levels = (values.clip(low, high).astype(np.float32) - low) * per_hu
    return np.asarray(np.rint(levels), np.uint16)


def from_hounsfield(values: NDArray[np.int16], hyperparameters: Hyperparameters) -> Pixels:
    """Convert HU to pixels, clipped to the model's window and rounded to the nearest grey level."""
    return to_pixels(hounsfield_levels(values, hyperparameters), hyperparameters.bits)


def to_hounsfield(pixels: Pixels, hyperparameters: Hyperparameters) -> NDArray[np.int16]:
    """Convert pixels to the nearest HU: the inverse of `from_hounsfield`."""
    low, high = hyperparameters.hu_window
    return np.asarray(np.rint((pixels + 1) * ((high - low) / 2) + low), np.int16)
