"""Arrays that the graphs of the cached sampler read and write."""

from __future__ import annotations

from math import ceil, prod

from pmtool.interface.layout import COLUMNS, Layout, carries
from pmtool.interface.protocol import Array, Memory
from pmtool.models.hyperparameters import LEVELS

LINE_MARGIN = 2
"""Columns of zeros to the left of a line of the horizontal stack; its first columns read them."""


class Buffers:
    """A backend's memory for ``lanes`` windows, allocated once.

    Programs are bound to it permanently; the data of a row are copied to and from a fixed place.

    Parameters
    ----------
    memory
        Memory of the backend.
    layout
        Sizes for the network.
    height, width
        Size of the windows in pixels.
    lanes
        Number of windows, ``M``.
    windows
        Largest number of windows in a call of the window graph.
    source
        Buffers with at least as many lanes to share memory with; only one of the two may be in use.

    Attributes
    ----------
    above, below
        Neighbours of the lanes that the window graph takes in one call,
        ``(windows, 1, H + 2 margin, W + 2 margin)``.
    relative_thickness
        Thickness of their slices, see `SlicePair`, ``(windows, 1, 1, 1)``.
    tails
        Uniform numbers ``(H, W, M)`` as tails, see `nearer_tail`.
    planes
        The window graph's outputs for all lanes, ``(M, H, W, channels)`` at their level.
    rows
        One row of every other array, ``(W, M, channels)``, by the names that the graphs use.
    row_pixels, row_tails
        Pixels and tails of the current row, ``(W, M)``.
    residuals
        Pixels relative to the midpoint, ``(1 + W, M)``, a column of zeros on the left.
    history
        Residuals of the three rows above, ``(3, 1 + W, M)``.
    """

    def __init__(
        self,
        memory: Memory,
        layout: Layout,
        height: int,
        width: int,
        lanes: int,
        windows: int = 1,
        source: Buffers | None = None,
    ) -> None:
        self.memory, self.layout = memory, layout
        self.arrays: list[Array] = []
        self._lent = None if source is None else iter(source.arrays)
        self.height, self.width, self.lanes = height, width, lanes
        margin = 2 * layout.hyperparameters.margin
        outer = min(windows, lanes), 1, height + margin, width + margin
        self.above, self.below = self._zeros(*outer), self._zeros(*outer)
        self.relative_thickness = self._zeros(outer[0], 1, 1, 1)
        self.tails = self._zeros(height, width, lanes)
        self.row_pixels, self.row_tails = self._zeros(width, lanes), self._zeros(width, lanes)
        self.residuals = self._zeros(1 + width, lanes)
        self.history = self._zeros(3, 1 + width, lanes)
        self.levels: dict[str, int] = {}
        self.rows: dict[str, Array] = {}
        self.planes: dict[str, Array] = {}
        self._add_rows()

    def _zeros(self, *shape: int) -> Array:
        """A new array of zeros, or the beginning of the source's array.

        Both buffers make their arrays in the same order, so that the source's next array is meant.
        """
        if self._lent is None:
            self.arrays.append(self.memory.zeros(*shape))
        else:
            whole, count = next(self._lent), prod(shape)
            flat = whole.reshape((prod(whole.shape),))
            self.arrays.append(flat[:count].reshape(shape))
        return self.arrays[-1]

    def _add_rows(self) -> None:
        layout = self.layout
        shares = [sum(layout.shares(level)) for level in range(LEVELS)]
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
            self._add(f"{line.name}_last", line.level, line.channels, LINE_MARGIN)
        for stack in "vh":
            for level, carry in enumerate(carries(stack, LEVELS).written):
                self._add(carry, level, layout.hyperparameters.channels)

    def _add(self, name: str, level: int, channels: int, margin: int = 0) -> None:
        self.levels[name] = level
        width = margin + (self.width >> level)
        self.rows[name] = self._zeros(width, self.lanes, channels)

    def _add_plane(self, name: str, level: int, channels: int) -> None:
        shape = self.height >> level, self.width >> level
        self.planes[name] = self._zeros(self.lanes, *shape, channels)
        self._add(name, level, channels)

    @staticmethod
    def size(layout: Layout, height: int, width: int, lanes: int) -> int:
        """Size of such buffers in bytes, with all arrays of rows counted as three rows per line."""
        lines = sum(3 * line.channels for stack in "vh" for line in layout.lines(stack))
        return ceil(4 * lanes * width * (height * (layout.floats_per_pixel + 3) + lines))

    def reset(self) -> None:
        """Clear the data of the previous windows."""
        for array in (self.residuals, self.history, *self.rows.values()):
            self.memory.clear(array)

    def load(self, row: int, depth: int) -> None:
        """Copy a row to where the graphs read it."""
        for name, plane in self.planes.items():
            level = self.levels[name]
            if level < depth:
                self.memory.load_row(plane, row >> level, self.rows[name])
        self.memory.copy(self.row_tails, self.tails[row])

    def standardise(self, columns: int) -> None:
        """Set the residuals of the loaded row's first ``columns`` pixels, which are known."""
        mixture = self.rows["mixture"][:columns]
        self.memory.standardise(self.row_pixels[:columns], mixture, self.residuals[1 : 1 + columns])

    def keep(self) -> None:
        """Keep the row's residuals for the rows that follow."""
        for target, source in (
            (self.history[0], self.history[1]),
            (self.history[1], self.history[2]),
            (self.history[2], self.residuals),
        ):
            self.memory.copy(target, source)

    def window(self, first: int) -> dict[str, Array]:
        """Arrays of the window graph for the lanes from ``first`` on, as many as it takes."""
        last = min(first + len(self.above), self.lanes)
        planes = {name: plane[first:last] for name, plane in self.planes.items()}
        count = last - first
        inputs = {"above": self.above, "below": self.below, "thickness": self.relative_thickness}
        return {name: array[:count] for name, array in inputs.items()} | planes

    def row(self, depth: int) -> dict[str, Array]:
        """Arrays of the row graph.

        A cache is advanced in place: the graph reads all of it before writing it.
        """
        lines = {s: [line.name for line in self.layout.lines(s, depth)] for s in "vh"}
        names = [*(f"{name}_last" for name in lines["h"]), *self._shares(depth)]
        names += [f"shares{level}" for level in range(depth)]
        arrays = {name: self._columns(name) for name in names} | {"residuals": self.history}
        for name in lines["v"] + lines["h"]:
            cache = self._columns(f"{name}_cache")
            arrays |= {f"{name}_cache": cache, f"{name}_cache_next": cache}
        return arrays | self._carries("v", depth, 0, self.width)

    def known(self, depth: int, columns: int) -> dict[str, Array]:
        """Arrays of the known graph for the first ``columns`` columns."""
        lasts = [f"{line.name}_last" for line in self.layout.lines("h", depth)]
        names = [*self._shares(depth), *lasts]
        arrays = {name: self._columns(name, 0, columns) for name in names}
        arrays["residuals"] = self.residuals[:columns]
        return arrays | self._carries("h", depth, 0, columns)

    def pixel(self, depth: int, first: int) -> dict[str, Array]:
        """Arrays of the pixel graph from column ``first`` on."""
        lines = self.layout.lines("h", depth)
        lasts = [f"{line.name}_last" for line in lines]
        names = ["mixture", "parameters", *self._shares(depth), *lasts]
        arrays = {name: self._columns(name, first) for name in names}
        arrays |= self._carries("h", depth, first, self.width)
        arrays |= {
            "pixels": self.row_pixels[first:],
            "tails": self.row_tails[first:],
            "residuals": self.residuals[1 + first :],
        }
        arrays = {name: self._grouped(array, first) for name, array in arrays.items()}
        for line in lines:
            row, column = self.rows[f"{line.name}_last"], LINE_MARGIN + (first >> line.level)
            arrays[f"{line.name}_before2"] = row[column - 2]
            arrays[f"{line.name}_before1"] = row[column - 1]
        arrays["previous"] = self.residuals[first].reshape((self.lanes, 1))
        return arrays

    def _grouped(self, columns: Array, first: int) -> Array:
        """Columns from ``first`` on in groups of the pixel graph, ``(groups, n, M, channels)``."""
        groups = (self.width - first) // COLUMNS
        count, lanes, *channels = columns.shape
        return columns.reshape((groups, count // groups, lanes, *(channels or [1])))

    def _shares(self, depth: int) -> list[str]:
        return [f"h_shares{level}" for level in range(depth)]

    def _carries(self, stack: str, depth: int, first: int, last: int) -> dict[str, Array]:
        """The carry that a depth reads, and the carries that it writes."""
        read, written = carries(stack, depth)
        names = {carry: carry for carry in read} | {f"{carry}_next": carry for carry in written}
        return {name: self._columns(carry, first, last) for name, carry in names.items()}

    def _columns(self, name: str, first: int = 0, last: int | None = None) -> Array:
        """Columns ``first`` to ``last`` of the finest level, at the level of the array."""
        level, array = self.levels[name], self.rows[name]
        margin = len(array) - (self.width >> level)
        last = self.width if last is None else last
        return array[margin + (first >> level) : margin + (last >> level)]
