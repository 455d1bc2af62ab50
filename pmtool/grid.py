"""Which slices a spacing asks for, and what each of them is made from.

PixelMiner generates the slice midway between two others, so what can be generated from ``n``
acquired slices in ``k`` rounds are the *nodes* of a dyadic stack: node ``t`` lies ``t / 2**k``
acquired slices after the first one, and every ``2**k``-th node is an acquired slice. The parents
of a generated node are one lowest set bit of ``t`` before and after it. Grids differ in where
their slices lie; slices that meet no node are interpolated between nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pmtool.errors import GeometryError, UsageError
from pmtool.interpolation import Interpolator, Weight, weights

GridName = Literal["keep-slices", "ibsi", "corner", "origin"]
GRIDS: tuple[GridName, ...] = ("keep-slices", "ibsi", "corner", "origin")
Kind = Literal["acquired", "synthesised", "interpolated", "extrapolated"]

MAX_ROUNDS = 8
NUMBER_BITS = 16
"""Fractional bits of a slice's number (see `Grid.number`)."""
SNAP = 2e-3
"""In distances between nodes: within it a position counts as meeting a node."""
_ROUNDING = 1e-6


class OutputSlice(NamedTuple):
    """One slice of the output.

    Attributes
    ----------
    kind
        ``extrapolated`` slices lie outside the acquired ones and repeat the first or last.
    position
        In acquired slices after the first one.
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
    count
        Acquired slices.
    source_spacing, spacing
        Of the acquired slices and of the output, mm.
    first
        Position of the output's first slice, in acquired slices after the first one.
    rounds
        How often the gaps between slices are halved, *k*.
    slices
        Of the output, in order.
    """

    name: str
    count: int
    source_spacing: float
    spacing: float
    first: float
    rounds: int
    slices: tuple[OutputSlice, ...]

    def number(self, node: int) -> int:
        """What identifies a node for the random numbers, whatever the target spacing is.

        Its position in acquired slices with 16 fractional bits, so that a finer grid extends a
        coarser one.
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
    count: int,
    source_spacing: float,
    spacing: float,
    name: GridName = "keep-slices",
    interpolator: Interpolator = "linear",
) -> Grid:
    """The grid that a spacing asks for.

    Parameters
    ----------
    count
        Acquired slices, at least two.
    source_spacing, spacing
        Of the acquired slices and the one wanted, mm.
    name
        ``keep-slices`` starts on the first acquired slice and ends on or before the last;
        ``ibsi`` aligns the grids' centres [1]_; ``corner`` their corners, as pyradiomics does;
        ``origin`` the centres of their first slices.
    interpolator
        For slices that meet no node.

    Raises
    ------
    UsageError
        If the spacing is not finite, not positive, coarser than the input's or below 1/256 of it.

    References
    ----------
    .. [1] Zwanenburg et al., IBSI reference manual, section 2.4 (interpolation grids).
    """
    check_spacing(source_spacing, spacing)
    ratio = spacing / source_spacing
    number = math.ceil(count / ratio - _ROUNDING)
    first = 0.0
    if name == "keep-slices":
        number = math.floor((count - 1 + SNAP) / ratio) + 1
    elif name == "ibsi":
        first = (count - 1 - ratio * (number - 1)) / 2
    elif name == "corner":
        first = (ratio - 1) / 2
    elif name != "origin":
        raise UsageError(f"there is no grid {name!r}; choose one of {', '.join(GRIDS)}")
    return _grid(name, count, source_spacing, spacing, first, number, interpolator)


def reference_grid(
    count: int,
    source_spacing: float,
    spacing: float,
    first: float,
    number: int,
    interpolator: Interpolator = "linear",
) -> Grid:
    """The grid of another image, whose ``number`` slices start at ``first``, in acquired slices.

    Raises
    ------
    GeometryError
        If it reaches more than one acquired slice beyond the first or the last one.
    UsageError
        As `make_grid`.
    """
    check_spacing(source_spacing, spacing)
    last = first + (number - 1) * spacing / source_spacing
    beyond = max(-first, last - (count - 1))
    if beyond > 1 + SNAP:
        raise GeometryError(
            f"the reference reaches {beyond * source_spacing:g} mm beyond the input's slices; "
            f"crop it to at most {source_spacing:g} mm"
        )
    return _grid("reference", count, source_spacing, spacing, first, number, interpolator)


def check_spacing(source_spacing: float, spacing: float) -> None:
    """Raise `UsageError` for a spacing that cannot be met."""
    if not math.isfinite(spacing) or spacing <= 0:
        raise UsageError(f"the spacing between slices must be positive and finite, not {spacing:g}")
    if spacing > source_spacing * (1 + _ROUNDING):
        raise UsageError(
            f"a spacing of {spacing:g} mm is coarser than the input's {source_spacing:g} mm; "
            "pmtool only refines"
        )
    if source_spacing > spacing * 2**MAX_ROUNDS * (1 + _ROUNDING):
        raise UsageError(
            f"a spacing of {spacing:g} mm is finer than 1/{2**MAX_ROUNDS} of the input's "
            f"{source_spacing:g} mm"
        )


def _grid(
    name: str,
    count: int,
    source_spacing: float,
    spacing: float,
    first: float,
    number: int,
    interpolator: Interpolator,
) -> Grid:
    ratio = spacing / source_spacing
    positions = [first + ratio * i for i in range(number)]
    rounds = _rounds(positions, ratio, count)
    slices = tuple(_output_slice(p, count, rounds, interpolator) for p in positions)
    return Grid(name, count, source_spacing, spacing, first, rounds, slices)


def _rounds(positions: list[float], ratio: float, count: int) -> int:
    """As many halvings as reach the spacing; one more where that avoids all interpolation."""
    rounds = max(math.ceil(-math.log2(ratio) - SNAP), 0)
    inside = [_clamped(p, count) for p in positions if not _is_outside(p, count)]
    meets = [all(_node(p, r) is not None for p in inside) for r in (rounds, rounds + 1)]
    return rounds + 1 if meets == [False, True] else rounds


def _is_outside(position: float, count: int) -> bool:
    return position < -SNAP or position > count - 1 + SNAP


def _clamped(position: float, count: int) -> float:
    return min(max(position, 0.0), float(count - 1))


def _node(position: float, rounds: int) -> int | None:
    node = round(position * 2**rounds)
    return node if abs(position * 2**rounds - node) <= SNAP else None


def _output_slice(
    position: float, count: int, rounds: int, interpolator: Interpolator
) -> OutputSlice:
    last = (count - 1) << rounds
    if _is_outside(position, count):
        return OutputSlice("extrapolated", position, (Weight(0 if position < 0 else last, 1.0),))
    position = _clamped(position, count)
    node = _node(position, rounds)
    if node is None:
        nodes = weights(position * 2**rounds, last + 1, interpolator)
        return OutputSlice("interpolated", position, nodes)
    kind: Kind = "synthesised" if node % (1 << rounds) else "acquired"
    return OutputSlice(kind, node / 2**rounds, (Weight(node, 1.0),))
