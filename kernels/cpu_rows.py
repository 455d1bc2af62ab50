"""A row through the vertical stack on the CPU: `vertical_row.cpp`."""

from __future__ import annotations

import ctypes

import numpy as np

from pmtool.interface.graph_names import kind_and_depth
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Arrays, address
from pmtool.kernels.cpu_loop import CpuLoop, CpuProgram
from pmtool.kernels.packing import Weights
from pmtool.kernels.pixel_arrays import Words
from pmtool.models.hyperparameters import LEVELS, Hyperparameters

_EDGES = (".left", ".right")


class CpuRows(CpuLoop):
    """The loop for the vertical stack; its weights are `pmtool.kernels.weights.row_weights`.

    What a block has in excess in the first and last column is kept negated, to be added.
    """

    function = "vertical_row"

    def __init__(
        self, library: ctypes.CDLL, hyperparameters: Hyperparameters, weights: Weights
    ) -> None:
        added = {name: -x if name.endswith(_EDGES) else x for name, x in weights.items()}
        super().__init__(library, hyperparameters, added)

    def bind(self, graph: str, arrays: Arrays) -> CpuRow:
        """See `Backend.bind`."""
        return CpuRow(self, graph, arrays)

    def layer(self, level: int, index: int) -> list[int]:
        """See `CpuLoop.layer`."""
        v, h = f"vertical.{level}.{index}", f"horizontal.{level}.{index}"
        names = f"{v}.shortcut", f"{v}.to_horizontal", f"{h}.first.matrix", f"{h}.second.matrix"
        blocks = [*self.block(f"{v}.first"), *self.block(f"{v}.second")]
        return [*blocks, *(self.at(name) for name in names)]

    def block(self, name: str) -> list[int]:
        """Words of ``Block``; a strided one never reaches beyond the last column."""
        right = "" if "strided" in name else f"{name}.right"
        return [self.at(part) for part in (f"{name}.matrix", f"{name}.left", right)]


class CpuRow(CpuProgram):
    """The row graph of a depth, bound to arrays.

    Parameters
    ----------
    loop
        The loop and the model's weights.
    graph, arrays
        The graph's name, and the arrays that `pmtool.graphs.row.RowGraph` takes and returns; a
        cache is advanced in place. They must not be moved.
    """

    def __init__(self, loop: CpuRows, graph: str, arrays: Arrays) -> None:
        self.arrays, self.depth = dict(arrays), kind_and_depth(graph)[1]
        hp = loop.hyperparameters
        self.lines = [self._lines(Layout(hp), level) for level in range(self.depth)]
        _, columns, lanes = arrays["residuals"].shape
        row = [
            *(lanes, columns - 1, self.depth, hp.channels, hp.blocks),
            *(self.at("residuals"), self.at(f"v{self.depth - 1}_carry")),
            *(*loop.block("input_vertical"), *loop.block("input_row"), loop.at("input_column")),
            *(word for level in range(LEVELS) for word in self._level(loop, level)),
        ]
        super().__init__(loop, row)

    def at(self, name: str) -> int:
        """Address of an array; 0 if there is none."""
        return address(self.arrays[name]) if name in self.arrays else 0

    def _lines(self, layout: Layout, level: int) -> tuple[Words, Words]:
        """Addresses of the vertical stack's caches, and words of ``Line``, of a level."""
        v, h = (
            [line.name for line in layout.lines(stack, self.depth) if line.level == level]
            for stack in "vh"
        )
        caches = [self.at(f"{name}_cache") for name in v]
        lines = [[self.at(f"{name}_cache"), self.at(f"{name}_last")] for name in h]
        return np.array(caches, np.uint64), np.array(lines, np.uint64)

    def _level(self, loop: CpuRows, level: int) -> list[int]:
        """Words of ``Level``."""
        lines = self.lines[level] if level < self.depth else None
        names = f"h_strided.{level}.matrix", f"upsample.{level}.matrix", f"upsample.{level}.bias"
        return [
            *(self.at(f"{name}{level}") for name in ("shares", "h_shares")),
            *(self.at(f"v{level}_carry_next"), address(loop.layers[level])),
            *([address(words) for words in lines] if lines else [0, 0]),
            *loop.block(f"v_strided.{level}"),
            *(loop.at(name) for name in names),
        ]
