"""The slices that a spacing asks for, and what each of them is made from.

PixelMiner generates the slice midway between two others. Acquired slices and those that ``k``
rounds can generate from them are therefore the nodes of a dyadic stack (`pmtool.geometry.nodes`):
node ``t`` lies ``t / 2**k`` acquired slices after the first one, and every ``2**k``-th node is an
acquired slice. The parents of a generated node lie one lowest set bit of ``t`` before and after it.
Grids differ in where their slices lie; slices that meet no node are interpolated between nodes, or
are the nearest node. Uneven stacks differ from even ones in the lengths of their gaps, and in how
often each is halved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pmtool.choices import GRIDS, GridName, Interpolator
from pmtool.errors import GeometryError, UsageError
from pmtool.geometry.interpolation import Weight
from pmtool.geometry.nodes import NUMBER_BITS, ROUNDING, SNAP, Nodes, Slices, Source
from pmtool.system.checks import check_choice

Kind = Literal["acquired", "synthesised", "interpolated", "shifted", "extrapolated"]


class OutputSlice(NamedTuple):
    """One slice of the output.

    Attributes
    ----------
    kind
        ``shifted`` slices lie between nodes and repeat the acquired slice that is the nearest node;
        ``extrapolated`` ones lie outside the acquired slices and repeat the first or last.
    position
        Position in acquired slices after the first one: the index of `pmtool.geometry.nodes`.
    weights
        Nodes that the slice is made from, with their weights.
    """

    kind: Kind
    position: float
    weights: tuple[Weight, ...]

    @property
    def is_copy(self) -> bool:
        """Whether the slice is one of the acquired slices, in its place or not."""
        return self.kind in ("acquired", "shifted", "extrapolated")

    @property
    def is_between(self) -> bool:
        """Whether the slice lies between nodes and is interpolated from them."""
        return self.kind in ("interpolated", "shifted")

    @property
    def gap(self) -> tuple[int, int]:
        """The two acquired slices that enclose this slice; it is not itself one."""
        lower = max(math.ceil(self.position) - 1, 0)
        return lower, lower + 1


@dataclass(frozen=True)
class Grid:
    """The slices of the output.

    Attributes
    ----------
    name
        One of `GRIDS`, or ``reference``.
    nodes
        Acquired slices and the nodes that can be generated from them.
    source_spacing, spacing
        Spacing of the acquired slices (the median if they are uneven) and of the output, mm.
    first
        Position of the output's first slice, in ``source_spacing`` after the first acquired one.
    slices
        Slices of the output, in order.
    """

    name: str
    nodes: Nodes
    source_spacing: float
    spacing: float
    first: float
    slices: tuple[OutputSlice, ...]

    @property
    def rounds(self) -> int:
        """Largest number of times that a gap between slices is halved, *k*."""
        return self.nodes.rounds

    def number(self, node: int) -> int:
        """Number that identifies a node to the random generator, whatever the target spacing.

        It is the node's index with 16 fractional bits, so that a finer grid extends a coarser one.
        """
        return node << (NUMBER_BITS - self.rounds)

    def generated_rounds(self) -> list[list[int]]:
        """The nodes to generate, one list per round; each round depends only on earlier ones."""
        nodes = self._with_ancestors(w.node for s in self.slices for w in s.weights)
        steps = [1 << (self.rounds - 1 - i) for i in range(self.rounds)]
        return [sorted(node for node in nodes if node & -node == step) for step in steps]

    def _with_ancestors(self, nodes: Iterable[int]) -> set[int]:
        visited: set[int] = set()
        pending = [node for node in nodes if not self.nodes.is_acquired(node)]
        while pending:
            node = pending.pop()
            if node not in visited:
                visited.add(node)
                pending += [p for p in parents(node) if not self.nodes.is_acquired(p)]
        return visited

    def generated_spacings(self) -> set[float]:
        """Distances, mm, from generated slices to the two slices that each is made from."""
        return {self.distance(node) for nodes in self.generated_rounds() for node in nodes}

    def distance(self, node: int) -> float:
        """Distance, mm, from a generated slice to the two slices that it is made from."""
        gap = self.nodes.lengths[self.nodes.slice_before(node)] * self.source_spacing
        return gap * ((node & -node) / (1 << self.rounds))

    def shift(self, output: OutputSlice) -> float:
        """Distance, mm along the axis, from a slice to the one node that takes its place."""
        ((node, _),) = output.weights
        gap = self.nodes.gap(output.position)
        off = node / (1 << self.rounds) - output.position
        return off * self.nodes.lengths[gap] * self.source_spacing

    def odd_gaps(self) -> list[int]:
        """Gaps between acquired slices that are not one slice distance, by their first slice."""
        lengths = enumerate(self.nodes.lengths)
        return [gap for gap, length in lengths if abs(length - 1) > self.nodes.snap]

    def counts(self) -> dict[Kind, int]:
        """Number of slices of every kind that occurs."""
        kinds = [s.kind for s in self.slices]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def dyadic_spacings(self) -> tuple[float, float]:
        """The two spacings, mm, reached by halving alone that enclose the output's spacing.

        ``keep-slices`` needs no interpolation at these, nor at some others, such as three quarters.
        """
        rounds = max(math.floor(math.log2(self.source_spacing / self.spacing) + SNAP), 0)
        return self.source_spacing / 2**rounds, self.source_spacing / 2 ** (rounds + 1)


def parents(node: int) -> tuple[int, int]:
    """The two nodes midway between which a generated node lies."""
    step = node & -node
    return node - step, node + step


def check_spacing(spacing: Sequence[float]) -> None:
    """Raise `UsageError` unless ``spacing`` is one number, or three, that ask for a spacing."""
    possible = len(spacing) in (1, 3) and all(0 <= x < math.inf for x in spacing)
    if not possible or not any(spacing):
        raise UsageError(
            "a spacing is one positive number, as 1.25, or three (x y z) of which 0 keeps"
        )


def spacing_along(axis: int, spacing: Sequence[float], present: float) -> float:
    """Spacing along an axis, mm, given one number, or x, y and z where 0 keeps the present one."""
    return spacing[0] if len(spacing) == 1 else spacing[axis] or present


def make_grid(
    slices: Slices,
    source_spacing: float,
    spacing: float,
    name: GridName = "keep-slices",
    interpolator: Interpolator = "nearest",
) -> Grid:
    """The grid that a spacing asks for.

    Parameters
    ----------
    slices
        Acquired slices, at least two.
    source_spacing, spacing
        Spacing of the acquired slices (the median if they are uneven) and wanted spacing, mm.
    name
        ``keep-slices`` starts on the first acquired slice and ends on or before the last;
        ``ibsi`` aligns the grids' centres [1]_; ``corner`` their corners, as pyradiomics does;
        ``origin`` the centres of their first slices.
    interpolator
        Interpolation of slices that meet no node; uneven stacks do not support ``bspline``.

    Raises
    ------
    UsageError
        If the spacing is not finite, not positive, coarser than the input's or below 1/256 of it;
        if a gap is longer than 32,768 spacings; or if splines are wanted in an uneven stack.

    References
    ----------
    .. [1] Zwanenburg et al., IBSI reference manual, section 2.4 (interpolation grids).
    """
    check_choice("grid", name, GRIDS)
    source = Source.of(slices, source_spacing, spacing)
    ratio = source.ratio
    number = math.ceil((source.last + 1) / ratio - ROUNDING)
    first = 0.0
    if name == "keep-slices":
        number = math.floor((source.last + source.margin) / ratio) + 1
    elif name == "ibsi":
        first = (source.last - ratio * (number - 1)) / 2
    elif name == "corner":
        first = (ratio - 1) / 2
    return _grid(name, source, spacing, first, number, interpolator)


def reference_grid(
    slices: Slices,
    source_spacing: float,
    spacing: float,
    first: float,
    number: int,
    interpolator: Interpolator = "nearest",
) -> Grid:
    """The grid of another image: ``number`` slices from ``first`` mm after the first acquired one.

    Raises
    ------
    GeometryError
        If it reaches more than one slice distance beyond the first or the last acquired slice.
    UsageError
        As in `make_grid`.
    """
    source = Source.of(slices, source_spacing, spacing)
    first /= source_spacing
    beyond = max(-first, first + (number - 1) * source.ratio - source.last)
    if beyond > 1 + source.margin:
        raise GeometryError(
            f"the reference reaches {beyond * source_spacing:g} mm beyond the input's slices; "
            f"crop it to at most {source_spacing:g} mm"
        )
    return _grid("reference", source, spacing, first, number, interpolator)


def _grid(
    name: str,
    source: Source,
    spacing: float,
    first: float,
    number: int,
    interpolator: Interpolator,
) -> Grid:
    if interpolator == "bspline" and not source.even:
        raise UsageError("an uneven stack cannot be interpolated by bspline: use nearest or linear")
    indices = [source.index(first + source.ratio * i) for i in range(number)]
    nodes = source.halved([index for index in indices if source.encloses(index)])
    slices = tuple(_output_slice(index, source, nodes, interpolator) for index in indices)
    return Grid(name, nodes, source.spacing, spacing, first, slices)


def _output_slice(
    index: float, source: Source, nodes: Nodes, interpolator: Interpolator
) -> OutputSlice:
    if not source.encloses(index):
        end = Weight(0 if index < 0 else nodes.last, 1.0)
        return OutputSlice("extrapolated", index, (end,))
    index = nodes.clamped(index)
    node = nodes.at(index)
    if node is None:
        return _between(index, nodes, nodes.around(index, interpolator))
    kind: Kind = "acquired" if nodes.is_acquired(node) else "synthesised"
    return OutputSlice(kind, node / 2**nodes.rounds, (Weight(node, 1.0),))


def _between(index: float, nodes: Nodes, weights: tuple[Weight, ...]) -> OutputSlice:
    is_copy = len(weights) == 1 and nodes.is_acquired(weights[0].node)
    return OutputSlice("shifted" if is_copy else "interpolated", index, weights)
