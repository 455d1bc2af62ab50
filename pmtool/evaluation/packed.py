"""Masks that take little memory."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable

import numpy as np

from pmtool.evaluation.lungs import Region


class PackedMask:
    """A mask ``(slices, H, W)`` whose slices are compressed: those of lungs to less than 1 %.

    Attributes
    ----------
    is_empty
        Whether it is false everywhere.
    """

    def __init__(self, slices: Iterable[Region]) -> None:
        self._slices: list[tuple[bytes, tuple[int, ...]]] = []
        self.is_empty = True
        for values in slices:
            self._slices.append((zlib.compress(np.packbits(values).tobytes()), values.shape))
            self.is_empty &= not values.any()

    def __getitem__(self, index: int) -> Region:
        """One slice ``(H, W)``."""
        packed, shape = self._slices[index]
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).view(np.bool_)
