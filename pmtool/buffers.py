"""What the graphs of the cached sampler read and write."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pmtool.layout import COLUMNS, LEVELS, RESIDUAL_MAX, Layout

Floats = NDArray[np.float32]
Part = slice | tuple[slice, slice]
MARGIN = 2
"""Columns of zeros on the left of a line of the horizontal stack: what its first column sees."""


class Buffers:
    """Memory for ``lanes`` windows, allocated once.

    Attributes
    ----------
    pixels
        ``(H, W, M)`` in [-1, 1], what is generated.
    residuals
        The same relative to the midpoint, ``(3 + H, 1 + W, M)``; three rows of zeros above and a
        column on the left.
    tails
        ``(H, W, M, 1)``: uniform numbers, see `nearer_tail`.
    planes
        The window graph's outputs for all lanes, ``(M, H, W, channels)`` of their level.
    rows
        One row of everything else, ``(W, M, channels)``, by the names that the graphs use.
    """

    def __init__(self, layout: Layout, height: int, width: int, lanes: int) -> None:
        self.layout, self.height, self.width, self.lanes = layout, height, width, lanes
        shares = [sum(layout.shares(level)) for level in range(LEVELS)]
        self.pixels = _zeros(height, width, lanes)
        self.residuals = _zeros(3 + height, 1 + width, lanes)
        self.tails = _zeros(height, width, lanes, 1)
        self.levels: dict[str, int] = {}
        self.rows: dict[str, Floats] = {}
        self.planes: dict[str, Floats] = {}
        self._add_plane("mixture", 0, layout.mixture)
        for level, channels in enumerate(shares):
            self._add_plane(f"shares{level}", level, 2 * channels)
        self._add("parameters", 0, 3 * layout.hyperparameters.mixtures)
        for level, channels in enumerate(shares):
            self._add(f"h_shares{level}", level, channels)
        for line in layout.lines("v"):
            self._add(f"{line.name}_cache", line.level, 2 * line.channels)
        for line in layout.lines("h"):
            self._add(f"{line.name}_cache", line.level, line.channels)
            self._add(f"{line.name}_last", line.level, line.channels, MARGIN)
        for carry in (layout.carry(stack, level) for stack in "vh" for level in range(LEVELS - 1)):
            self._add(carry.name, carry.level, carry.channels)

    def _add(self, name: str, level: int, channels: int, margin: int = 0) -> None:
        self.levels[name] = level
        self.rows[name] = _zeros(margin + (self.width >> level), self.lanes, channels)

    def _add_plane(self, name: str, level: int, channels: int) -> None:
        shape = self.height >> level, self.width >> level
        self.planes[name] = np.empty((self.lanes, *shape, channels), np.float32)
        self._add(name, level, channels)

    @staticmethod
    def size(layout: Layout, height: int, width: int, lanes: int) -> int:
        """Bytes that such buffers take; rows are neglected beside planes of a whole window."""
        lines = sum(3 * line.channels for stack in "vh" for line in layout.lines(stack))
        return math.ceil(4 * lanes * width * (height * (layout.floats_per_pixel + 4) + lines))

    def reset(self) -> None:
        """Forget the windows before."""
        self.residuals[:] = 0
        for array in self.rows.values():
            array[:] = 0

    def give(self, part: Part, pixels: Floats) -> None:
        """Pixels of a part of the window, ``(H, W, M)``, whose planes are there."""
        mean, log_scale = self.planes["mixture"][..., -2:].transpose(3, 1, 2, 0)
        self.pixels[part] = pixels[part]
        residuals = (pixels[part] - mean[part]) * np.exp(-log_scale[part])
        self.residuals[3:, 1:][part] = residuals.clip(-RESIDUAL_MAX, RESIDUAL_MAX)

    def load(self, row: int, depth: int) -> None:
        """Bring a row of the planes to where the graphs read it."""
        for name, plane in self.planes.items():
            level = self.levels[name]
            if level < depth:
                self.rows[name][:] = plane[:, row >> level].transpose(1, 0, 2)

    def row(self, depth: int) -> dict[str, Floats]:
        """Arrays of the row graph but for the residuals, which change with the row.

        A cache is moved on in place: the graph reads it whole before it writes it.
        """
        lines = {s: [line.name for line in self.layout.lines(s, depth)] for s in "vh"}
        names = [*(f"{name}_last" for name in lines["h"]), *self._shares(depth)]
        names += [f"shares{level}" for level in range(depth)]
        arrays = {name: self._columns(name) for name in names}
        for name in lines["v"] + lines["h"]:
            cache = self._columns(f"{name}_cache")
            arrays |= {f"{name}_cache": cache, f"{name}_cache_next": cache}
        return arrays | self._carries("v", depth, 0, self.width)

    def known(self, depth: int, columns: int) -> dict[str, Floats]:
        """Arrays of the known graph for the first columns, but for the residuals."""
        lasts = [f"{line.name}_last" for line in self.layout.lines("h", depth)]
        names = [*self._shares(depth), *lasts]
        arrays = {name: self._columns(name, 0, columns) for name in names}
        return arrays | self._carries("h", depth, 0, columns)

    def pixel(self, depth: int, first: int) -> dict[str, Floats]:
        """Arrays of the pixel graph from column ``first`` on, but for those that `Lanes` adds."""
        lines = self.layout.lines("h", depth)
        names = [
            "mixture",
            "parameters",
            *self._shares(depth),
            *(f"{line.name}_last" for line in lines),
        ]
        arrays = {name: self._columns(name, first) for name in names}
        arrays |= self._carries("h", depth, first, self.width)
        arrays = {name: self.grouped(array, first) for name, array in arrays.items()}
        for line in lines:
            row, column = self.rows[f"{line.name}_last"], MARGIN + (first >> line.level)
            arrays[f"{line.name}_before2"] = row[column - 2]
            arrays[f"{line.name}_before1"] = row[column - 1]
        return arrays

    def grouped(self, columns: Floats, first: int) -> Floats:
        """Columns from ``first`` on in the pixel graph's groups: ``(groups, n, M, channels)``."""
        return columns.reshape((self.width - first) // COLUMNS, -1, *columns.shape[1:])

    def _shares(self, depth: int) -> list[str]:
        return [f"h_shares{level}" for level in range(depth)]

    def _carries(self, stack: str, depth: int, first: int, last: int) -> dict[str, Floats]:
        """The carry that a depth reads, and those that it writes."""
        names = {f"{stack}{x}_carry_next": f"{stack}{x}_carry" for x in range(depth - 1)}
        if depth < LEVELS:
            names[f"{stack}{depth - 1}_carry"] = f"{stack}{depth - 1}_carry"
        return {name: self._columns(carry, first, last) for name, carry in names.items()}

    def _columns(self, name: str, first: int = 0, last: int | None = None) -> Floats:
        """Columns ``first`` to ``last`` of the finest level, at the level of the array."""
        level, array = self.levels[name], self.rows[name]
        margin = len(array) - (self.width >> level)
        last = self.width if last is None else last
        return array[margin + (first >> level) : margin + (last >> level)]


def _zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)
