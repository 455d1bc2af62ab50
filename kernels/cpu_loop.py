"""What the compiled loops have in common: a library, and weights at fixed addresses."""

from __future__ import annotations

import ctypes

import numpy as np

from pmtool.errors import OUT_OF_MEMORY, MemoryBudgetError
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import address
from pmtool.kernels.packing import Weights
from pmtool.models.hyperparameters import LEVELS, Hyperparameters


class CpuLoop:
    """A compiled loop with a model's weights, for all programs.

    Parameters
    ----------
    library
        The compiled loops, see `pmtool.kernels.cpu.library`.
    hyperparameters
        Hyper-parameters of the network.
    weights
        The loop's weights, see `pmtool.kernels.weights`.
    """

    function: str
    """The loop's name in the library."""

    def __init__(
        self, library: ctypes.CDLL, hyperparameters: Hyperparameters, weights: Weights
    ) -> None:
        self.run, self.hyperparameters = library[self.function], hyperparameters
        self.weights = {name: np.ascontiguousarray(x, np.float32) for name, x in weights.items()}
        gated = [range(Layout(hyperparameters).gated(level)) for level in range(LEVELS)]
        self.layers = [
            np.array([self.layer(level, index) for index in indices], np.uint64)
            for level, indices in enumerate(gated)
        ]

    def layer(self, level: int, index: int) -> list[int]:
        """Words of the loop's ``Layer`` for a gated layer of a level."""
        raise NotImplementedError

    def at(self, name: str) -> int:
        """Address of a matrix or vector; 0 if there is none."""
        return address(self.weights[name]) if name in self.weights else 0


class CpuProgram:
    """A compiled loop bound to a row's arrays.

    Parameters
    ----------
    loop
        The loop and the model's weights.
    row
        Words of the loop's ``Row``. The arrays behind their addresses must outlive the program.
    """

    def __init__(self, loop: CpuLoop, row: list[int]) -> None:
        self.loop, self.row = loop, np.array(row, np.uint64)

    def run(self) -> None:
        """See `Program.run`; raises `MemoryBudgetError`."""
        if self.loop.run(ctypes.c_void_p(address(self.row))):
            raise MemoryBudgetError(OUT_OF_MEMORY)
