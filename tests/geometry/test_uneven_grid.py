"""Grids of stacks whose gaps differ, and of which even ones are a special case."""

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmtool.choices import GRIDS, GridName, Interpolator
from pmtool.errors import GeometryError, UsageError
from pmtool.geometry.grid import Grid, make_grid, parents, reference_grid
from pmtool.geometry.nodes import UNEVEN_SNAP

GAPS = st.lists(
    st.sampled_from([1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 0.5, 1.7, 5.3]), min_size=1, max_size=12
)
ANY_GAPS = st.lists(st.floats(0.3, 6), min_size=1, max_size=8)
RATIOS = st.sampled_from([1.0, 0.5, 0.25, 0.8, 0.75, 0.65, 0.4, 1 / 3, 1 / 64])


def places(gaps: list[float], scale: float = 2.5) -> list[float]:
    """Positions, mm, with a median gap of ``scale``."""
    return list(np.cumsum([0.0, *gaps]) * scale / median(gaps))


def node_places(grid: Grid) -> dict[int, float]:
    """Where every node of the output and its parents lies, mm: acquired ones by definition,
    others by the mean of their parents."""
    found = {
        index << grid.rounds: position * grid.source_spacing
        for index, position in enumerate(grid.nodes.positions)
    }
    for nodes in grid.generated_rounds():
        for node in nodes:
            one, other = parents(node)
            found[node] = (found[one] + found[other]) / 2
    return found


@settings(deadline=None)
@given(GAPS | ANY_GAPS, RATIOS, st.sampled_from(GRIDS), st.sampled_from(["nearest", "linear"]))
def test_every_slice_lies_where_it_should(
    gaps: list[float], ratio: float, name: GridName, interpolator: Interpolator
) -> None:
    positions = places(gaps)
    grid = make_grid(positions, 2.5, 2.5 * ratio, name, interpolator)
    where = node_places(grid)
    for index, output in enumerate(grid.slices):
        wanted = grid.first * 2.5 + index * grid.spacing
        found = sum(w.share * where[w.node] for w in output.weights)
        if output.kind == "extrapolated":
            assert not 0 < wanted < positions[-1]
            assert found == pytest.approx(positions[0] if wanted < 0 else positions[-1])
        elif output.is_between and interpolator == "nearest":
            (weight,) = output.weights
            assert grid.nodes.is_acquired(weight.node) == (output.kind == "shifted")
            assert found == pytest.approx(wanted + grid.shift(output))
            assert abs(grid.shift(output)) <= 0.5 * grid.spacing * (1 + UNEVEN_SNAP)
        elif output.kind == "interpolated":
            assert found == pytest.approx(wanted)
            low, high = sorted(w.node for w in output.weights)
            assert where[high] - where[low] <= grid.spacing * 2**UNEVEN_SNAP * (1 + 1e-9)
            assert low >> grid.rounds == (high - 1) >> grid.rounds
        else:
            assert found == pytest.approx(wanted, abs=1.05 * UNEVEN_SNAP * grid.spacing)
            (weight,) = output.weights
            assert grid.nodes.is_acquired(weight.node) == (output.kind == "acquired")
            assert output.position == weight.node / 2**grid.rounds
    assert np.all(np.diff([s.position for s in grid.slices]) > 0)


@settings(deadline=None)
@given(GAPS | ANY_GAPS, st.sampled_from([1, 2, 4, 8]))
def test_numbers_say_where_a_slice_lies_whatever_the_spacing(gaps: list[float], parts: int) -> None:
    positions = places(gaps)
    coarse, fine = (make_grid(positions, 2.5, 2.5 / n) for n in (parts, 2 * parts))
    known = {fine.number(node): place for node, place in node_places(fine).items()}
    assert len(known) == len(node_places(fine))
    for node, place in node_places(coarse).items():
        assert known.get(coarse.number(node), place) == pytest.approx(place)
    for index, position in enumerate(positions):
        assert known[index << 16] == pytest.approx(position)


@settings(deadline=None)
@given(
    st.integers(2, 30),
    st.sampled_from([1.0, 0.5, 0.25, 0.75, 0.4]),
    st.sampled_from(GRIDS),
    st.sampled_from([0.7, 1.25, 3.0]),
)
def test_equal_gaps_are_an_even_stack(
    count: int, ratio: float, name: GridName, spacing: float
) -> None:
    even = make_grid(count, spacing, ratio * spacing, name)
    positions = [spacing * index for index in range(count)]
    uneven = make_grid(positions, spacing, ratio * spacing, name)
    assert uneven.first == pytest.approx(even.first)
    assert uneven.generated_rounds() == even.generated_rounds()
    for one, other in zip(uneven.slices, even.slices, strict=True):
        assert one.kind == other.kind
        assert one.position == pytest.approx(other.position)
        assert [w.node for w in one.weights] == [w.node for w in other.weights]
        assert [w.share for w in one.weights] == pytest.approx([w.share for w in other.weights])


def test_missing_slices_are_filled_by_repeated_midpoints() -> None:
    grid = make_grid([0, 2.5, 7.5, 10, 20, 22.5], 2.5, 1.25)
    assert grid.counts() == {"acquired": 6, "synthesised": 13}
    assert grid.nodes.halvings == (1, 2, 1, 3, 1)
    assert grid.odd_gaps() == [1, 3]
    assert grid.generated_spacings() == {5, 2.5, 1.25}
    assert [len(nodes) for nodes in grid.generated_rounds()] == [5, 4, 4]


def test_only_what_is_missing_at_the_same_spacing() -> None:
    grid = make_grid([0, 2.5, 7.5, 10], 2.5, 2.5)
    assert [s.kind for s in grid.slices].count("synthesised") == 1
    assert grid.slices[2].gap == (1, 2)
    assert grid.slices[2].position == 1.5


def test_a_gap_of_three_is_interpolated_as_far_as_needed() -> None:
    grid = make_grid([0, 2, 8, 10], 2, 2, interpolator="linear")
    assert [s.kind for s in grid.slices] == [
        "acquired",
        "acquired",
        "interpolated",
        "interpolated",
        "acquired",
        "acquired",
    ]
    quarters = [1 << grid.rounds | part << (grid.rounds - 2) for part in range(5)]
    (low, high) = grid.slices[2].weights
    assert (low.node, high.node) == (quarters[1], quarters[2])
    assert high.share == pytest.approx(1 / 3)


def test_slices_that_jitter_are_kept() -> None:
    rng = np.random.default_rng(0)
    positions = np.delete(np.arange(40) * 1.25, [7, 20, 21])
    positions[1:] += rng.uniform(-0.01, 0.01, 36)
    grid = make_grid(positions.tolist(), float(np.median(np.diff(positions))), 0.625)
    assert grid.counts()["acquired"] == 37
    assert grid.slices[14].kind == "synthesised"


def test_a_reference_is_judged_by_true_positions() -> None:
    assert reference_grid([0, 2.5, 7.5], 2.5, 1.25, 0, 9).counts()["extrapolated"] == 2
    with pytest.raises(GeometryError, match=r"reaches 3\.75 mm beyond"):
        reference_grid([0, 2.5, 7.5], 2.5, 1.25, 0, 10)


@pytest.mark.parametrize("positions", [[0, 2.5, 1e6], [0, 1, 2, 40000]])
def test_gaps_that_cannot_be_filled(positions: list[float]) -> None:
    with pytest.raises(UsageError, match="too long"):
        make_grid(positions, 2.5, 2.5 / 255)


def test_splines_need_even_stacks() -> None:
    with pytest.raises(UsageError, match="nearest or linear"):
        make_grid([0, 2.5, 7.5], 2.5, 1.25, "keep-slices", "bspline")


@pytest.mark.parametrize("spacing", [0, math.nan, 2.8, 0.001])
def test_spacings_that_cannot_be_met(spacing: float) -> None:
    with pytest.raises(UsageError):
        make_grid([0, 2.5, 7.5], 2.5, spacing)
