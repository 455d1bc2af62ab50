"""A batch of windows generated together, row by row.

A lane is one window of one slice pair. All lanes of a batch share their window's size and how many
of its first rows and columns are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pmtool.backends.protocol import Backend, Program
from pmtool.buffers import Buffers, Floats
from pmtool.layout import LEVELS, depth_of_row
from pmtool.mixture import nearer_tail
from pmtool.windows import Window

DEPTHS = range(1, LEVELS + 1)
Recorder = Callable[[int, Floats], None]
"""Called with a row and its target parameters ``(columns, M, 3 K)``, logits, means, log-scales."""


class Lanes:
    """Buffers bound to their graphs, for windows of one kind."""

    def __init__(self, backend: Backend, buffers: Buffers, window: Window, chooser: str) -> None:
        self.backend, self.buffers = backend, buffers
        self.known_rows, self.known_columns = window.known_rows, window.known_columns
        self.window = backend.bind("window", {})
        self.rows = {d: backend.bind(f"row{d}", buffers.row(d)) for d in DEPTHS}
        self.given = self._known(buffers.width)
        self.known = self._known(self.known_columns)
        self.pixels = {
            d: backend.bind(f"{chooser}{d}", buffers.pixel(d, self.known_columns)) for d in DEPTHS
        }

    def _known(self, columns: int) -> dict[int, Program]:
        if not columns:
            return {}
        return {d: self.backend.bind(f"known{d}", self.buffers.known(d, columns)) for d in DEPTHS}

    def prepare(self, pairs: Sequence[tuple[Floats, Floats]]) -> None:
        """Run the window graph on every lane's `PairGroup.neighbours`."""
        for lane, (above, below) in enumerate(pairs):
            outputs = {name: plane[lane] for name, plane in self.buffers.planes.items()}
            slices = {"above": above[None, None], "below": below[None, None]}
            self.window.run({**slices, **outputs})

    def generate(self, known: Floats, uniforms: Floats, on_row: Recorder | None = None) -> Floats:
        """Generate the windows that `prepare` has seen.

        Parameters
        ----------
        known
            ``(H, W, M)`` in [-1, 1]; only the known rows and columns are read.
        uniforms
            ``(H, W, M)`` in (0, 1).

        Returns
        -------
        array
            ``(H, W, M)`` in [-1, 1], overwritten by the next call.
        """
        buffers = self.buffers
        buffers.reset()
        buffers.tails[..., 0] = nearer_tail(uniforms)
        for part in np.s_[: self.known_rows], np.s_[:, : self.known_columns]:
            buffers.give(part, known)
        for row in range(buffers.height):
            self._row(row)
            if on_row is not None and row >= self.known_rows:
                on_row(row, buffers.rows["parameters"][self.known_columns :])
        return buffers.pixels

    def _row(self, row: int) -> None:
        buffers, depth = self.buffers, depth_of_row(row)
        buffers.load(row, depth)
        self.rows[depth].run({"residuals": buffers.residuals[row : row + 3]})
        residuals = buffers.residuals[3 + row]
        if row < self.known_rows:
            self.given[depth].run({"residuals": residuals[:-1]})
            return
        first = self.known_columns
        if first:
            self.known[depth].run({"residuals": residuals[:first]})
        columns = {
            "pixels": buffers.pixels[row, first:, :, None],
            "residuals": residuals[1 + first :, :, None],
            "tails": buffers.tails[row, first:],
        }
        groups = {name: buffers.grouped(array, first) for name, array in columns.items()}
        previous = residuals[first, :, None]
        self.pixels[depth].run({"previous": previous, **groups})
