"""Slice pairs as the network sees them, and the slices being generated between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.interface.protocol import Array, Memory
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.pixels.levels import from_hounsfield, to_hounsfield
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
    """N windows of the two neighbours, as the network takes them.

    Attributes
    ----------
    above, below
        Pixels in [-1, 1], ``(N, 1, H + 2 margin, W + 2 margin)``.
    relative_thickness
        That of `SlicePair`, ``(N, 1, 1, 1)``.
    """

    above: Float32s
    below: Float32s
    relative_thickness: Float32s


class PairGroup:
    """Slice pairs that are generated together, on slices padded to a size that windows cover.

    Parameters
    ----------
    hyperparameters
        Hyper-parameters of the network.
    pairs
        Slice pairs of one size.
    shape
        Height and width of a padded slice.
    memory
        Memory of the backend.

    Attributes
    ----------
    above, below
        Neighbours in `memory` with a margin on every side, ``(P, H + 2 margin, W + 2 margin)`` in
        [-1, 1]. Beyond the slice, its border pixels are repeated.
    relative_thickness
        That of `SlicePair`, ``(P, 1, 1, 1)``.
    targets
        Slices being generated, in `memory`, ``(P, H, W)`` in [-1, 1].
    """

    def __init__(
        self,
        hyperparameters: Hyperparameters,
        pairs: Sequence[SlicePair],
        shape: tuple[int, int],
        memory: Memory,
    ) -> None:
        self.hyperparameters, self.pairs, self.memory = hyperparameters, pairs, memory
        self.height, self.width = shape
        self.above = self._placed([pair.above for pair in pairs])
        self.below = self._placed([pair.below for pair in pairs])
        thickness = [pair.relative_thickness for pair in pairs]
        self.relative_thickness = np.array(thickness, np.float32).reshape(-1, 1, 1, 1)
        self.targets = memory.zeros(len(pairs), *shape)

    @staticmethod
    def size(hyperparameters: Hyperparameters, height: int, width: int) -> int:
        """Size of a pair's slices in memory, in bytes."""
        margin = 2 * hyperparameters.margin
        return 4 * (2 * (height + margin) * (width + margin) + height * width)

    def corners(self, batch: Batch) -> Array:
        """Return the corners of windows in `memory`, see `Memory.corners`."""
        corners = [(pair, window.top, window.left) for pair, window in batch]
        return self.memory.corners(np.array(corners, np.int64))

    def neighbours(self, batch: Batch) -> Neighbours:
        """Return windows of one size of both neighbours, with a margin on every side."""
        margin, (_, window) = 2 * self.hyperparameters.margin, batch[0]
        shape = len(batch), 1, window.height + margin, window.width + margin
        above, below = (self.memory.zeros(*shape) for _ in range(2))
        corners = self.corners(batch)
        self.memory.load_windows(self.above, corners, above)
        self.memory.load_windows(self.below, corners, below)
        return Neighbours(
            self.memory.download(above),
            self.memory.download(below),
            self.relative_thickness[[pair for pair, _ in batch]],
        )

    def target(self, pair: int, window: Window) -> Float32s:
        """Return a window of the slice being generated, ``(H, W)`` in [-1, 1]."""
        return self.memory.download(self.targets[pair])[window.area]

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
        height, width = self.pairs[0].above.shape
        targets = (self.memory.download(target) for target in self.targets)
        return [to_hounsfield(target[:height, :width], self.hyperparameters) for target in targets]

    def _placed(self, slices: Sequence[NDArray[np.int16]]) -> Array:
        """Copy slices to `memory` as pixels, with a margin."""
        margin, (height, width) = self.hyperparameters.margin, slices[0].shape
        shape = self.height + 2 * margin, self.width + 2 * margin
        around = (margin, shape[0] - margin - height), (margin, shape[1] - margin - width)
        placed = self.memory.zeros(len(slices), *shape)
        for target, values in zip(placed, slices, strict=True):
            pixels = from_hounsfield(values, self.hyperparameters)
            self.memory.upload(target, np.pad(pixels, around, mode="edge"))
        return placed
