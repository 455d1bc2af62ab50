"""The loop over the pixels of a row on the CPU: `pixel_row.cpp`."""

from __future__ import annotations

from pmtool.interface.protocol import Arrays, address
from pmtool.kernels.cpu_loop import CpuLoop, CpuProgram
from pmtool.kernels.pixel_arrays import PixelArrays
from pmtool.models.hyperparameters import LEVELS


class CpuPixels(CpuLoop):
    """The loop over pixels; its weights are `pmtool.kernels.weights.pixel_weights`."""

    function = "pixel_row"

    def bind(self, graph: str, arrays: Arrays) -> CpuPixelRow:
        """See `Backend.bind`."""
        return CpuPixelRow(self, graph, arrays)

    def layer(self, level: int, index: int) -> list[int]:
        """See `CpuLoop.layer`."""
        name = f"weights.layers.{level}.{index}"
        return [self.at(f"{name}.first"), self.at(f"{name}.second")]


class CpuPixelRow(CpuProgram):
    """The pixels of a row, all columns in one call.

    Parameters
    ----------
    loop
        The loop and the model's weights.
    graph, arrays
        See `PixelArrays`; the arrays must not be moved.
    """

    def __init__(self, loop: CpuPixels, graph: str, arrays: Arrays) -> None:
        self.arrays = PixelArrays(loop.hyperparameters, graph, arrays)
        self.lines = [self.arrays.lines(level) for level in range(self.arrays.depth)]
        names = ("weights.input", "output.matrix", "output.bias")
        row = [
            *self.arrays.sizes(),
            *(loop.at(name) for name in names),
            *self.arrays.addresses(),
            *(word for level in range(LEVELS) for word in self._level(loop, level)),
        ]
        super().__init__(loop, row)

    def _level(self, loop: CpuPixels, level: int) -> list[int]:
        """Words of ``Level``."""
        names = ("strided", "upsample", "upsample_bias")
        return [
            *(self.arrays.at(f"h_shares{level}"), self.arrays.at(f"h{level}_carry_next")),
            address(self.lines[level]) if level < self.arrays.depth else 0,
            address(loop.layers[level]),
            *(loop.at(f"weights.{name}{level}") for name in names),
        ]
