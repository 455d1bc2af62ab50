"""Slice pairs as the network sees them, and the slices being generated between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.pixels.levels import hounsfield_levels, to_hounsfield, to_pixels
from pmtool.pixels.uniforms import Places
from pmtool.sampling.windows import Window

Batch = Sequence[tuple[int, Window]]
"""Windows of slice pairs: the index of a pair in its group, and a window of it."""


class SlicePair(NamedTuple):
    """The two neighbours of a slice to generate.

    Attributes
    ----------
    above, below
        Slices ``(H, W)`` in HU, clipped to the model's window.
    relative_thickness
        Thickness as the network takes it: `pmtool.geometry.thickness.relative_thickness`.
    number
        Number below ``2**32`` that identifies the slice when random numbers are drawn.
    sample
        Index of the sample among several of the same slice.
    """

    above: NDArray[np.int16]
    below: NDArray[np.int16]
    relative_thickness: float
    number: int
    sample: int = 0


class Neighbours(NamedTuple):
    """A window of the two neighbours, as the network takes it.

    Attributes
    ----------
    above, below
        Pixels in [-1, 1], ``(H + 2 margin, W + 2 margin)``.
    relative_thickness
        That of `SlicePair`, ``(1, 1)``.
    """

    above: Float32s
    below: Float32s
    relative_thickness: Float32s


class PairGroup:
    """Slice pairs that are generated together, on slices padded to a size that windows cover."""

    def __init__(
        self, hyperparameters: Hyperparameters, pairs: Sequence[SlicePair], shape: tuple[int, int]
    ) -> None:
        self.hyperparameters, self.pairs = hyperparameters, pairs
        self.size = pairs[0].above.shape
        self.height, self.width = shape
        self.targets: Float32s = np.zeros((len(pairs), *shape), np.float32)
        self._outer = [(self._padded(pair.above), self._padded(pair.below)) for pair in pairs]

    def neighbours(self, pair: int, window: Window) -> Neighbours:
        """Return a window of both neighbours, with a margin on every side.

        Beyond the slice, its border pixels are repeated.
        """
        margin = 2 * self.hyperparameters.margin
        rows = slice(window.top, window.top + window.height + margin)
        columns = slice(window.left, window.left + window.width + margin)
        bits = self.hyperparameters.bits
        above, below = (to_pixels(levels[rows, columns], bits) for levels in self._outer[pair])
        thickness = np.full((1, 1), self.pairs[pair].relative_thickness, np.float32)
        return Neighbours(above, below, thickness)

    def _padded(self, values: NDArray[np.int16]) -> NDArray[np.uint16]:
        """Levels of a slice with a margin; computed once, because windows share most of them."""
        margin, whole = self.hyperparameters.margin, (self.height, self.width)
        around = [(margin, margin + n - k) for n, k in zip(whole, self.size, strict=True)]
        return np.pad(hounsfield_levels(values, self.hyperparameters), around, mode="edge")

    def target(self, pair: int, window: Window) -> Float32s:
        """Return a view of a window of the slice being generated, ``(H, W)`` in [-1, 1]."""
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        return self.targets[pair, rows, columns]

    def places(self, batch: Batch) -> Places:
        """Return the places of windows, which determine their random numbers."""
        pairs = [self.pairs[pair] for pair, _ in batch]
        values = (
            [pair.number for pair in pairs],
            [pair.sample for pair in pairs],
            [window.top for _, window in batch],
            [window.left for _, window in batch],
        )
        return Places(*(np.array(x, np.uint64) for x in values))

    def slices(self) -> list[NDArray[np.int16]]:
        """Return the generated slices in HU, without padding."""
        height, width = self.size
        return [to_hounsfield(t[:height, :width], self.hyperparameters) for t in self.targets]
