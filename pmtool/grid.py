"""Which slices a spacing asks for, and what each of them is made from.

PixelMiner generates the slice midway between two others, so what can be generated from acquired
slices in ``k`` rounds are the nodes of a dyadic stack (`pmtool.nodes`): node ``t`` lies
``t / 2**k`` acquired slices after the first one, and every ``2**k``-th node is an acquired slice.
The parents of a generated node are one lowest set bit of ``t`` before and after it. Grids differ
in where their slices lie; slices that meet no node are interpolated between nodes. Uneven stacks
differ from even ones in the lengths of their gaps, and in how often each is halved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pmtool.errors import GeometryError, UsageError
from pmtool.interpolation import Interpolator, Weight
from pmtool.nodes import NUMBER_BITS, Nodes, halved, to_index

GridName = Literal["keep-slices", "ibsi", "corner", "origin"]
GRIDS: tuple[GridName, ...] = ("keep-slices", "ibsi", "corner", "origin")
Kind = Literal["acquired", "synthesised", "interpolated", "extrapolated"]
Slices = int | Sequence[float]
"""Acquired slices: their number, or their positions, mm after the first one, where uneven."""

MAX_ROUNDS = 8
SNAP = 2e-3
"""In distances between nodes: within it a position counts as meeting a node."""
UNEVEN_SNAP = 5e-2
"""The same in uneven stacks, whose positions jitter or were written with few decimals."""
_ROUNDING = 1e-6


class OutputSlice(NamedTuple):
    """One slice of the output.

    Attributes
    ----------
    kind
        ``extrapolated`` slices lie outside the acquired ones and repeat the first or last.
    position
        In acquired slices after the first one: the index of `pmtool.nodes`.
    weights
        The nodes that it is made from.
    """

    kind: Kind
    position: float
    weights: tuple[Weight, ...]

    @property
    def gap(self) -> tuple[int, int]:
        """The acquired slices that enclose it."""
        lower = max(math.ceil(self.position) - 1, 0)
        return lower, lower + 1


@dataclass(frozen=True)
class Grid:
    """The output's slices.

    Attributes
    ----------
    name
        One of `GRIDS`, or ``reference``.
    nodes
        Acquired slices and what can be generated from them.
    source_spacing, spacing
        Of the acquired slices (the median where they are uneven) and of the output, mm.
    first
        Position of the output's first slice, in ``source_spacing`` after the first acquired one.
    slices
        Of the output, in order.
    """

    name: str
    nodes: Nodes
    source_spacing: float
    spacing: float
    first: float
    slices: tuple[OutputSlice, ...]

    @property
    def count(self) -> int:
        """Acquired slices."""
        return len(self.nodes.positions)

    @property
    def rounds(self) -> int:
        """How often gaps between slices are halved at most, *k*."""
        return self.nodes.rounds

    def number(self, node: int) -> int:
        """What identifies a node for the random numbers, whatever the target spacing is.

        Its index with 16 fractional bits, so that a finer grid extends a coarser one.
        """
        return node << (NUMBER_BITS - self.rounds)

    def is_acquired(self, node: int) -> bool:
        """Whether a node is an acquired slice, the one at ``node >> rounds``."""
        return node % (1 << self.rounds) == 0

    def generated_rounds(self) -> list[list[int]]:
        """The nodes to generate, a list a round; each depends on earlier rounds alone."""
        wanted = self._with_ancestors(w.node for s in self.slices for w in s.weights)
        steps = [1 << (self.rounds - 1 - i) for i in range(self.rounds)]
        return [sorted(node for node in wanted if node & -node == step) for step in steps]

    def _with_ancestors(self, nodes: Iterable[int]) -> set[int]:
        found: set[int] = set()
        pending = [node for node in nodes if not self.is_acquired(node)]
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                pending += [p for p in parents(node) if not self.is_acquired(p)]
        return found

    def generated_spacings(self) -> set[float]:
        """Distances, mm, of generated slices to the two that each was made from."""
        nodes = self.nodes
        return {
            nodes.lengths[node >> nodes.rounds] * self.source_spacing / 2 ** (number + 1)
            for number, generated in enumerate(self.generated_rounds())
            for node in generated
        }

    def odd_gaps(self) -> list[int]:
        """The gaps between acquired slices, by the first of both, that are not one distance."""
        lengths = enumerate(self.nodes.lengths)
        return [gap for gap, length in lengths if abs(length - 1) > self.nodes.snap]

    def counts(self) -> dict[Kind, int]:
        """Slices of every kind, those that occur."""
        kinds = [s.kind for s in self.slices]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def dyadic_spacings(self) -> tuple[float, float]:
        """The next spacings, mm, that ``keep-slices`` meets without interpolation."""
        rounds = max(math.floor(math.log2(self.source_spacing / self.spacing) + SNAP), 0)
        return self.source_spacing / 2**rounds, self.source_spacing / 2 ** (rounds + 1)


def parents(node: int) -> tuple[int, int]:
    """The two nodes midway between which a generated node lies."""
    step = node & -node
    return node - step, node + step


def make_grid(
    slices: Slices,
    source_spacing: float,
    spacing: float,
    name: GridName = "keep-slices",
    interpolator: Interpolator = "linear",
) -> Grid:
    """The grid that a spacing asks for.

    Parameters
    ----------
    slices
        Acquired, at least two.
    source_spacing, spacing
        Of the acquired slices (the median where they are uneven) and the one wanted, mm.
    name
        ``keep-slices`` starts on the first acquired slice and ends on or before the last;
        ``ibsi`` aligns the grids' centres [1]_; ``corner`` their corners, as pyradiomics does;
        ``origin`` the centres of their first slices.
    interpolator
        For slices that meet no node; uneven stacks know ``linear`` alone.

    Raises
    ------
    UsageError
        If the spacing is not finite, not positive, coarser than the input's or below 1/256 of it,
        or an uneven stack shall be interpolated by splines.

    References
    ----------
    .. [1] Zwanenburg et al., IBSI reference manual, section 2.4 (interpolation grids).
    """
    source = _Source.of(slices, source_spacing)
    ratio = source.ratio(spacing)
    number = math.ceil((source.last + 1) / ratio - _ROUNDING)
    first = 0.0
    if name == "keep-slices":
        number = math.floor((source.last + source.snap) / ratio) + 1
    elif name == "ibsi":
        first = (source.last - ratio * (number - 1)) / 2
    elif name == "corner":
        first = (ratio - 1) / 2
    elif name != "origin":
        raise UsageError(f"there is no grid {name!r}; choose one of {', '.join(GRIDS)}")
    return source.grid(name, spacing, first, number, interpolator)


def reference_grid(
    slices: Slices,
    source_spacing: float,
    spacing: float,
    first: float,
    number: int,
    interpolator: Interpolator = "linear",
) -> Grid:
    """The grid of another image: ``number`` slices from ``first``, mm after the first acquired.

    Raises
    ------
    GeometryError
        If it reaches more than one slice distance beyond the first or the last acquired slice.
    UsageError
        As `make_grid`.
    """
    source = _Source.of(slices, source_spacing)
    first /= source_spacing
    beyond = max(-first, first + (number - 1) * source.ratio(spacing) - source.last)
    if beyond > 1 + source.snap:
        raise GeometryError(
            f"the reference reaches {beyond * source_spacing:g} mm beyond the input's slices; "
            f"crop it to at most {source_spacing:g} mm"
        )
    return source.grid("reference", spacing, first, number, interpolator)


@dataclass(frozen=True)
class _Source:
    """Acquired slices: their positions in slice distances, and these in mm."""

    positions: tuple[float, ...]
    spacing: float
    even: bool

    @classmethod
    def of(cls, slices: Slices, spacing: float) -> _Source:
        if isinstance(slices, int):
            return cls(tuple(map(float, range(slices))), spacing, True)
        return cls(tuple(position / spacing for position in slices), spacing, False)

    @property
    def last(self) -> float:
        return self.positions[-1]

    @property
    def snap(self) -> float:
        return SNAP if self.even else UNEVEN_SNAP

    def ratio(self, spacing: float) -> float:
        """A spacing in slice distances; raises `UsageError` for one that cannot be met."""
        if not math.isfinite(spacing) or spacing <= 0:
            raise UsageError(
                f"the spacing between slices must be positive and finite, not {spacing:g}"
            )
        ratio = spacing / self.spacing
        if ratio > 1 + (_ROUNDING if self.even else UNEVEN_SNAP):
            raise UsageError(
                f"a spacing of {spacing:g} mm is coarser than the input's {self.spacing:g} mm; "
                "pmtool only refines"
            )
        if ratio * 2**MAX_ROUNDS * (1 + _ROUNDING) < 1:
            raise UsageError(
                f"a spacing of {spacing:g} mm is finer than 1/{2**MAX_ROUNDS} of the input's "
                f"{self.spacing:g} mm"
            )
        return ratio

    def grid(
        self, name: str, spacing: float, first: float, number: int, interpolator: Interpolator
    ) -> Grid:
        if interpolator != "linear" and not self.even:
            raise UsageError(f"an uneven stack is interpolated linearly, not by {interpolator}")
        ratio = self.ratio(spacing)
        indices = [to_index(first + ratio * i, self.positions) for i in range(number)]
        inside = [self._clamped(index) for index in indices if not self._is_outside(index)]
        nodes = halved(self.positions, ratio, inside, self.snap)
        slices = tuple(self._output_slice(index, nodes, interpolator) for index in indices)
        return Grid(name, nodes, self.spacing, spacing, first, slices)

    def _output_slice(self, index: float, nodes: Nodes, interpolator: Interpolator) -> OutputSlice:
        if self._is_outside(index):
            end = Weight(0 if index < 0 else nodes.last, 1.0)
            return OutputSlice("extrapolated", index, (end,))
        index = self._clamped(index)
        node = nodes.at(index)
        if node is None:
            return OutputSlice("interpolated", index, nodes.around(index, interpolator))
        kind: Kind = "synthesised" if node % (1 << nodes.rounds) else "acquired"
        return OutputSlice(kind, node / 2**nodes.rounds, (Weight(node, 1.0),))

    def _is_outside(self, index: float) -> bool:
        return index < -self.snap or index > len(self.positions) - 1 + self.snap

    def _clamped(self, index: float) -> float:
        return min(max(index, 0.0), float(len(self.positions) - 1))
