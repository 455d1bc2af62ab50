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
from pmtool.interpolation import Interpolator, Weight, weights

NUMBER_BITS = 16
"""Fractional bits of a slice's number (see `pmtool.grid.Grid.number`): the most halvings."""


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

    def gap(self, index: float) -> int:
        """The gap that an index lies in."""
        return min(int(index), len(self.halvings) - 1)


def to_index(position: float, positions: Sequence[float]) -> float:
    """The index of a position; beyond the ends it grows by one a slice distance."""
    inside = min(max(position, 0.0), positions[-1])
    gap = min(bisect_right(positions, inside), len(positions) - 1) - 1
    start, end = positions[gap : gap + 2]
    return gap + (inside - start) / (end - start) + (position - inside)


def halved(
    positions: Sequence[float], spacing: float, indices: Sequence[float], snap: float
) -> Nodes:
    """Halve every gap until it is no coarser than a spacing.

    Gaps of one length, to a tenth of a slice distance, are halved once more where that makes all
    indices in them meet nodes.

    Parameters
    ----------
    positions
        Of the acquired slices.
    spacing
        In slice distances.
    indices
        Of the slices wanted, none of them outside.
    snap
        See `Nodes`.

    Raises
    ------
    UsageError
        If a gap would be halved more than `NUMBER_BITS` times.
    """
    places = tuple(positions)
    lengths = [end - start for start, end in pairwise(places)]
    enough = [max(math.ceil(math.log2(x) - math.log2(spacing) - snap), 0) for x in lengths]
    if max(enough) >= NUMBER_BITS:
        raise UsageError(
            f"a gap between slices is more than {2 ** (NUMBER_BITS - 1)} times the spacing asked "
            "for; give a coarser one"
        )
    nodes = Nodes(places, tuple(enough), snap)
    finer = Nodes(places, tuple(n + 1 for n in enough), snap)
    kinds = [round(length, 1) for length in lengths]
    unmet, hopeless = (
        {kinds[halving.gap(i)] for i in indices if halving.at(i) is None}
        for halving in (nodes, finer)
    )
    more = (int(kind in unmet - hopeless) for kind in kinds)
    return Nodes(places, tuple(map(sum, zip(enough, more, strict=True))), snap)


def _nearest(index: float, halvings: int, snap: float) -> int | None:
    node = round(index * 2**halvings)
    return node if abs(index * 2**halvings - node) <= snap else None
