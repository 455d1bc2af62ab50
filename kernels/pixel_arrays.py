"""The addresses of the arrays that a pixel graph is bound to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pmtool.interface.graph_names import kind_and_depth
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Arrays, address
from pmtool.models.hyperparameters import Hyperparameters

Words = NDArray[np.uint64]


class PixelArrays:
    """Arrays that the pixel loops read and write, for their structures of pointers.

    Parameters
    ----------
    hyperparameters
        Hyper-parameters of the network.
    graph
        ``quantile<depth>`` or ``mean<depth>``.
    arrays
        Arrays that the pixel graph is bound to, see `pmtool.graphs.pixel.PixelGraph` and
        `pmtool.interface.buffers.Buffers.pixel`; ``parameters`` may be missing.
    """

    def __init__(self, hyperparameters: Hyperparameters, graph: str, arrays: Arrays) -> None:
        self.hyperparameters, self.arrays = hyperparameters, dict(arrays)
        self.chooser, self.depth = kind_and_depth(graph)
        groups, columns, self.lanes, _ = arrays["tails"].shape
        self.columns = groups * columns

    def at(self, name: str) -> int:
        """Address of an array; 0 if there is none."""
        return address(self.arrays[name]) if name in self.arrays else 0

    def sizes(self) -> list[int]:
        """Sizes and options with which ``Row`` of both loops begins."""
        hp = self.hyperparameters
        sizes = hp.channels, hp.blocks, hp.mixtures, hp.outer_mixtures, hp.bits
        return [self.lanes, self.columns, self.depth, int(self.chooser == "mean"), *sizes]

    def addresses(self) -> list[int]:
        """Addresses of the arrays outside the levels, in the order of both loops' ``Row``."""
        names = ["mixture", "tails", "previous", f"h{self.depth - 1}_carry"]
        return [self.at(name) for name in (*names, "pixels", "residuals", "parameters")]

    def lines(self, level: int) -> Words:
        """Words of ``Line`` of line.cuh for every line of a level."""
        lines = Layout(self.hyperparameters).lines("h", self.depth)
        names = [line.name for line in lines if line.level == level]
        parts = ("before2", "before1", "last")
        return np.array([[self.at(f"{n}_{part}") for part in parts] for n in names], np.uint64)
