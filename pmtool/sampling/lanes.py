"""A batch of windows generated together, row by row.

A lane is one window of one slice pair. All lanes of a batch have the same window size and the same
numbers of known first rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.choices import Mode
from pmtool.interface.buffers import Buffers
from pmtool.interface.graph_names import DEPTHS
from pmtool.interface.layout import depth_of_row
from pmtool.interface.protocol import Backend, Program
from pmtool.pixels.mixture import nearer_tail
from pmtool.pixels.uniforms import Places
from pmtool.sampling.pairs import Neighbours


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

    def prepare(self, pairs: Sequence[Neighbours]) -> None:
        """Run the window graph on the neighbours of all lanes, or of the first ones."""
        buffers, memory = self.buffers, self.buffers.memory
        targets = buffers.above, buffers.below, buffers.relative_thickness
        for first, program in self.windows.items():
            outer = list(zip(*pairs[first : first + len(buffers.above)], strict=True))
            for target, values in zip(targets, outer, strict=False):
                memory.upload(target[: len(values)], np.stack(values)[:, None])
            if outer:
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
        self, known: Float32s, known_rows: int = 0, on_row: Callable[[int], None] | None = None
    ) -> Float32s:
        """Generate the windows.

        Parameters
        ----------
        known
            Known pixels ``(H, W, M)`` in [-1, 1], for as many lanes as wanted; only the known rows
            and columns are read.
        known_rows
            Number of known rows of the windows.
        on_row
            Called with the index of every generated row.

        Returns
        -------
        array
            Generated windows, ``(H, W, M)`` in [-1, 1].
        """
        buffers = self.buffers
        buffers.reset()
        buffers.memory.upload(buffers.pixels, self._filled(known))
        for row in range(buffers.height):
            self._row(row, known=row < known_rows)
            if on_row is not None and row >= known_rows:
                on_row(row)
        return buffers.memory.download(buffers.pixels)[..., : known.shape[-1]]

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

    def _row(self, row: int, *, known: bool) -> None:
        buffers, depth = self.buffers, depth_of_row(row)
        buffers.load(row, depth)
        self.rows[depth].run()
        if known:
            buffers.standardise(buffers.width)
            self.whole_rows[depth].run()
        else:
            if self.known_columns:
                buffers.standardise(self.known_columns)
                self.row_starts[depth].run()
            self.pixels[depth].run()
        buffers.keep(row)
