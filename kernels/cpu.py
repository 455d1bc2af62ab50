"""The pixel loop on the CPU: `pixel_row.cpp`, compiled when the package was installed."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec

import numpy as np

from pmtool.errors import OUT_OF_MEMORY, MemoryBudgetError
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Arrays, address
from pmtool.kernels.packing import Weights
from pmtool.kernels.pixel_arrays import PixelArrays, Words
from pmtool.models.hyperparameters import LEVELS, Hyperparameters

_LIBRARY = "pmtool.kernels._pixel_row"


@cache
def library() -> ctypes.CDLL | None:
    """Load the compiled loop; None if it was not compiled or cannot be loaded here."""
    spec = find_spec(_LIBRARY)
    if spec is None or spec.origin is None:
        return None
    try:
        return ctypes.CDLL(spec.origin)
    except OSError:
        return None


class CpuPixels:
    """The compiled loop with a model's weights, for all programs.

    Parameters
    ----------
    library
        The compiled loop, see `library`.
    hyperparameters
        Hyper-parameters of the network.
    weights
        See `pmtool.kernels.weights.bundle_weights`.
    """

    def __init__(
        self, library: ctypes.CDLL, hyperparameters: Hyperparameters, weights: Weights
    ) -> None:
        self.library, self.hyperparameters = library, hyperparameters
        self.weights = {name: np.ascontiguousarray(x, np.float32) for name, x in weights.items()}
        self.layers = [self._layers(level) for level in range(LEVELS)]

    def bind(self, graph: str, arrays: Arrays) -> CpuPixelRow:
        """See `Backend.bind`."""
        return CpuPixelRow(self, graph, arrays)

    def at(self, name: str) -> int:
        """Address of a matrix or vector; 0 if there is none."""
        return address(self.weights[name]) if name in self.weights else 0

    def _layers(self, level: int) -> Words:
        """Words of ``Layer`` of pixel_row.cpp for every gated layer of a level."""
        count = Layout(self.hyperparameters).gated(level)
        names = [f"weights.layers.{level}.{index}" for index in range(count)]
        return np.array([[self.at(f"{n}.first"), self.at(f"{n}.second")] for n in names], np.uint64)


class CpuPixelRow:
    """The pixel loop of a row, all columns in one call.

    Parameters
    ----------
    loop
        The loop and the model's weights.
    graph, arrays
        See `PixelArrays`; the arrays must not be moved.
    """

    def __init__(self, loop: CpuPixels, graph: str, arrays: Arrays) -> None:
        self.loop = loop
        self.arrays = PixelArrays(loop.hyperparameters, graph, arrays)
        self.lines = [self.arrays.lines(level) for level in range(self.arrays.depth)]
        self.row = np.array(self._row(), np.uint64)

    def run(self) -> None:
        """See `Program.run`; raises `MemoryBudgetError`."""
        if self.loop.library.pixel_row(ctypes.c_void_p(address(self.row))):
            raise MemoryBudgetError(OUT_OF_MEMORY)

    def _row(self) -> list[int]:
        """Words of ``Row`` of pixel_row.cpp."""
        names = ("weights.input", "output.matrix", "output.bias")
        return [
            *self.arrays.sizes(),
            *(self.loop.at(name) for name in names),
            *self.arrays.addresses(),
            *(word for level in range(LEVELS) for word in self._level(level)),
        ]

    def _level(self, level: int) -> list[int]:
        """Words of ``Level`` of pixel_row.cpp."""
        names = ("strided", "upsample", "upsample_bias")
        return [
            *(self.arrays.at(f"h_shares{level}"), self.arrays.at(f"h{level}_carry_next")),
            address(self.lines[level]) if level < self.arrays.depth else 0,
            address(self.loop.layers[level]),
            *(self.loop.at(f"weights.{name}{level}") for name in names),
        ]
