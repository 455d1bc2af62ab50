"""A batch of windows generated together, row by row.

A lane is one window of one slice pair. All lanes of a batch have the same window size and the same
numbers of known first rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.choices import Mode
from pmtool.interface.buffers import Buffers
from pmtool.interface.graph_names import DEPTHS
from pmtool.interface.layout import depth_of_row
from pmtool.interface.protocol import Array, Backend, Program
from pmtool.pixels.mixture import nearer_tail
from pmtool.pixels.uniforms import Places
from pmtool.sampling.pairs import Batch, PairGroup


class Lanes:
    """Buffers bound to their graphs, for windows with a fixed number of known columns.

    Call `prepare`, then `draw` or `take`, then `generate`.
    """

    def __init__(
        self, backend: Backend, buffers: Buffers, known_columns: int, chooser: str
    ) -> None:
        self.backend, self.buffers, self.known_columns = backend, buffers, known_columns
        self.windows = {
            first: backend.bind("window", buffers.window(first))
            for first in range(0, buffers.lanes, len(buffers.above))
        }
        self.rows = {d: backend.bind(f"row{d}", buffers.row(d)) for d in DEPTHS}
        self.whole_rows = self._known(buffers.width)
        self.row_starts = self._known(known_columns)
        self.pixels = {
            d: backend.bind(f"{chooser}{d}", buffers.pixel(d, known_columns)) for d in DEPTHS
        }

    def _known(self, columns: int) -> dict[int, Program]:
        if not columns:
            return {}
        return {d: self.backend.bind(f"known{d}", self.buffers.known(d, columns)) for d in DEPTHS}

    def prepare(self, group: PairGroup, batch: Batch) -> None:
        """Run the window graph on the neighbours of a batch, in the first lanes.

        The group is in the buffers' memory.
        """
        buffers, memory, corners = self.buffers, self.buffers.memory, group.corners(batch)
        thickness = group.relative_thickness[[pair for pair, _ in batch]]
        for first, program in self.windows.items():
            if first >= len(batch):
                break
            count = min(len(buffers.above), len(batch) - first)
            part = slice(first, first + count)
            memory.load_windows(group.above, corners[part], buffers.above[:count])
            memory.load_windows(group.below, corners[part], buffers.below[:count])
            memory.upload(buffers.relative_thickness[:count], thickness[part])
            program.run()

    def draw(self, places: Places, seed: int, mode: Mode) -> None:
        """Draw the lanes' uniform numbers, or, unless ``mode`` is "sample", set all to 1/2.

        The quantile at 1/2 is the median.
        """
        buffers = self.buffers
        if mode == "sample":
            filled = Places(*(self._filled(values) for values in places))
            buffers.memory.tails(buffers.tails, seed, filled)
        else:
            self.take(np.full(buffers.tails.shape, 0.5, np.float32))

    def take(self, uniforms: Float32s) -> None:
        """Use these uniform numbers in (0, 1), ``(H, W, M)``."""
        self.buffers.memory.upload(self.buffers.tails, self._filled(nearer_tail(uniforms)))

    def generate(
        self, group: PairGroup, batch: Batch, on_row: Callable[[int], None] | None = None
    ) -> None:
        """Generate the batch that was prepared, in the group's targets.

        ``on_row`` is called with the index of every generated row.
        """
        corners, known_rows = group.corners(batch), batch[0][1].known_rows
        self.buffers.reset()
        for row in range(self.buffers.height):
            self._row(row, group.targets, corners, known=row < known_rows)
            if on_row is not None and row >= known_rows:
                on_row(row)
        self.buffers.memory.wait()  # frees what was uploaded, and tells progress as it is

    def parameters(self) -> Float32s:
        """Parameters of the mixtures in the new columns of the last row, ``(columns, M, 3 K)``.

        They are logits, means and log-scales.
        """
        buffers = self.buffers
        return buffers.memory.download(buffers.rows["parameters"][self.known_columns :])

    def _filled(self, values: NDArray[Any]) -> NDArray[Any]:
        """Repeat the last lane's values to fill the unused lanes."""
        lacking = self.buffers.lanes - values.shape[-1]
        return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, lacking)], mode="edge")

    def _row(self, row: int, targets: Array, corners: Array, *, known: bool) -> None:
        buffers, memory, depth = self.buffers, self.buffers.memory, depth_of_row(row)
        pixels, columns = buffers.row_pixels, buffers.width if known else self.known_columns
        buffers.load(row, depth)
        self.rows[depth].run()
        if columns:
            memory.load_pixels(targets, corners, row, pixels[:columns])
            buffers.standardise(columns)
            (self.whole_rows if known else self.row_starts)[depth].run()
        if not known:
            self.pixels[depth].run()
            memory.store_pixels(targets, corners, row, columns, pixels[columns:])
        buffers.keep()
