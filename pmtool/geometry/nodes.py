"""Where the slices lie that can be generated: gaps between slices, halved again and again.

Positions are in slice distances after the first acquired slice: 0, 1, 2, ... in an even stack. An
*index* is in acquired slices: index 3.25 lies a quarter of the way from slice 3 to slice 4, however
far apart these are. In an even stack the two are the same.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from pmtool.errors import UsageError
from pmtool.geometry.interpolation import Interpolator, Weight, weights

Slices = int | Sequence[float]
"""Acquired slices: their number, or their positions, mm after the first one, where uneven."""

MAX_ROUNDS = 8
"""Of a slice distance."""
NUMBER_BITS = 16
"""Fractional bits of a slice's number (see `pmtool.geometry.grid.Grid`); most rounds of any gap."""
SNAP = 2e-3
"""In distances between nodes: within it an index counts as meeting a node."""
UNEVEN_SNAP = 5e-2
"""The same in uneven stacks, whose positions jitter or were written with few decimals."""
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Nodes:
    """Acquired slices and those that halving the gaps between them gives.

    Node ``t`` lies at index ``t / 2**rounds``; where a gap is halved less often than another one,
    some of its nodes are not used.

    Attributes
    ----------
    positions
        Of the acquired slices, increasing from 0.
    halvings
        Of every gap.
    snap
        In distances between nodes: within it an index counts as meeting a node.
    """

    positions: tuple[float, ...]
    halvings: tuple[int, ...]
    snap: float

    @cached_property
    def rounds(self) -> int:
        """Of the gap that is halved most often."""
        return max(self.halvings)

    @cached_property
    def last(self) -> int:
        """The node of the last acquired slice."""
        return len(self.halvings) << self.rounds

    @cached_property
    def lengths(self) -> tuple[float, ...]:
        """Of the gaps, in slice distances."""
        return tuple(end - start for start, end in pairwise(self.positions))

    def at(self, index: float) -> int | None:
        """The node that an index meets, if any."""
        halvings = self.halvings[self.gap(index)]
        node = _nearest(index, halvings, self.snap)
        return None if node is None else node << (self.rounds - halvings)

    def around(self, index: float, interpolator: Interpolator) -> tuple[Weight, ...]:
        """The nodes that the slice at an index is interpolated between."""
        halvings = self.halvings[self.gap(index)]
        count = (len(self.halvings) << halvings) + 1
        found = weights(index * 2**halvings, count, interpolator)
        return tuple(Weight(w.node << (self.rounds - halvings), w.share) for w in found)

    def clamped(self, index: float) -> float:
        """The nearest index that is not outside."""
        return min(max(index, 0.0), float(len(self.halvings)))

    def gap(self, index: float) -> int:
        """The gap that an index lies in."""
        return min(int(index), len(self.halvings) - 1)


@dataclass(frozen=True)
class Source:
    """Acquired slices, and how finely they are to be divided.

    Attributes
    ----------
    positions
        Increasing from 0.
    spacing
        The slice distance, mm.
    ratio
        The spacing asked for, in slice distances.
    even
        Whether positions are 0, 1, 2, ...
    """

    positions: tuple[float, ...]
    spacing: float
    ratio: float
    even: bool

    @classmethod
    def of(cls, slices: Slices, source_spacing: float, spacing: float) -> Source:
        """From what is known in mm; raises `UsageError` for a spacing that cannot be met."""
        ratio = spacing / source_spacing
        if isinstance(slices, int):
            source = cls(tuple(map(float, range(slices))), source_spacing, ratio, True)
        else:
            places = tuple(position / source_spacing for position in slices)
            source = cls(places, source_spacing, ratio, False)
        source._check(spacing)
        return source

    @property
    def last(self) -> float:
        """The last slice's position."""
        return self.positions[-1]

    @property
    def snap(self) -> float:
        """See `Nodes`."""
        return SNAP if self.even else UNEVEN_SNAP

    @property
    def margin(self) -> float:
        """In slice distances: an index so little outside counts as that of the end."""
        return SNAP if self.even else UNEVEN_SNAP * self.ratio

    def index(self, position: float) -> float:
        """The index of a position; beyond the ends it grows by one a slice distance."""
        inside = min(max(position, 0.0), self.last)
        gap = min(bisect_right(self.positions, inside), len(self.positions) - 1) - 1
        start, end = self.positions[gap : gap + 2]
        return gap + (inside - start) / (end - start) + (position - inside)

    def encloses(self, index: float) -> bool:
        """Whether an index lies between the first and the last slice."""
        return -self.margin <= index <= len(self.positions) - 1 + self.margin

    def halved(self, indices: Sequence[float]) -> Nodes:
        """Halve every gap until it is no longer than the spacing asked for.

        Gaps of one length, to a tenth of a slice distance, are halved once more where that makes
        all indices in them meet nodes.
        """
        asked = math.log2(self.ratio) + self.snap
        enough = [max(math.ceil(math.log2(length) - asked), 0) for length in self._lengths]
        nodes = Nodes(self.positions, tuple(enough), self.snap)
        finer = Nodes(self.positions, tuple(n + 1 for n in enough), self.snap)
        kinds = [round(length, 1) for length in self._lengths]
        inside = [nodes.clamped(index) for index in indices]
        unmet, hopeless = (
            {kinds[halving.gap(i)] for i in inside if halving.at(i) is None}
            for halving in (nodes, finer)
        )
        more = (int(kind in unmet - hopeless) for kind in kinds)
        return Nodes(self.positions, tuple(map(sum, zip(enough, more, strict=True))), self.snap)

    @property
    def _lengths(self) -> list[float]:
        return [end - start for start, end in pairwise(self.positions)]

    def _check(self, spacing: float) -> None:
        if not (0 < spacing < math.inf and 0 < self.ratio < math.inf):
            raise UsageError(
                "the spacing between slices must be positive and finite, not "
                f"{spacing:g} mm in place of {self.spacing:g} mm"
            )
        if self.ratio > 1 + (_ROUNDING if self.even else UNEVEN_SNAP):
            raise UsageError(
                f"a spacing of {spacing:g} mm is coarser than the input's {self.spacing:g} mm; "
                "pmtool only refines"
            )
        if self.ratio * 2**MAX_ROUNDS * (1 + _ROUNDING) < 1:
            raise UsageError(
                f"a spacing of {spacing:g} mm is finer than 1/{2**MAX_ROUNDS} of the input's "
                f"{self.spacing:g} mm"
            )
        longest = max(self._lengths)
        if longest > self.ratio * 2 ** (NUMBER_BITS - 1):
            raise UsageError(
                f"a gap of {longest * self.spacing:g} mm between slices is too long for a spacing "
                f"of {spacing:g} mm; give a coarser one"
            )


def _nearest(index: float, halvings: int, snap: float) -> int | None:
    node = round(index * 2**halvings)
    return node if abs(index * 2**halvings - node) <= snap else None
