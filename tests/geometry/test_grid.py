"""Grids against the formulae of IBSI and pyradiomics, and the rules of the dyadic stack."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pmtool.choices import GRIDS, INTERPOLATORS, GridName, Interpolator
from pmtool.errors import GeometryError, UsageError
from pmtool.geometry.grid import Grid, Kind, make_grid, parents, reference_grid
from pmtool.geometry.nodes import SNAP

COUNTS = st.integers(2, 60)
SPACINGS = st.sampled_from([0.6, 0.625, 0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0])


def readme_rows() -> list[tuple[float, float, set[float], list[float]]]:
    """Its table: from, to, spacings of generated slices, and the share of each kind, percent."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    head = "| from, to, mm | generated at, mm | acquired | generated | nearest |"
    table = text.partition(head)[2].partition("\n\n")[0]
    rows = []
    for line in table.splitlines()[2:]:
        spacings, generated, *shares = line.strip("|").split("|")
        percent = [float(s.strip(" %") or 0) for s in shares]
        for source, target in re.findall(r"([\d.]+) to ([\d.]+)", spacings):
            at = {float(x) for x in re.findall(r"[\d.]+", generated)} or {float(target)}
            rows.append((float(source), float(target), at, percent))
    return rows


@pytest.mark.parametrize(("source", "target", "generated", "shares"), readme_rows())
def test_what_readme_says_of_spacings(
    source: float, target: float, generated: set[float], shares: list[float]
) -> None:
    """Of a scan of 15 cm, to two in a hundred."""
    grid = make_grid(round(150 / source) + 1, source, target)
    assert grid.generated_spacings() == generated
    kinds: tuple[Kind, ...] = ("acquired", "synthesised", "interpolated")
    for kind, share in zip(kinds, shares, strict=True):
        assert 100 * grid.counts().get(kind, 0) / len(grid.slices) == pytest.approx(share, abs=2)


def test_the_table_of_readme_is_found() -> None:
    assert len(readme_rows()) == 9


def positions(grid: Grid) -> list[float]:
    return [s.position for s in grid.slices]


def test_halving_keeps_every_slice_between_generated_ones() -> None:
    grid = make_grid(133, 2.5, 1.25)
    assert len(grid.slices) == 265
    assert grid.rounds == 1
    assert grid.first == 0
    assert [s.kind for s in grid.slices[:3]] == ["acquired", "synthesised", "acquired"]
    assert grid.counts() == {"acquired": 133, "synthesised": 132}
    assert grid.generated_rounds() == [list(range(1, 265, 2))]
    assert grid.slices[7].gap == (3, 4)


def test_other_spacings_are_interpolated_on_the_next_finer_dyadic_stack() -> None:
    grid = make_grid(9, 2.0, 1.25, interpolator="linear")
    assert grid.rounds == 1
    assert grid.dyadic_spacings() == (2.0, 1.0)
    assert grid.slices[1].kind == "interpolated"
    assert [w.node for w in grid.slices[1].weights] == [1, 2]
    assert grid.slices[1].weights[1].share == pytest.approx(0.25)
    assert grid.slices[4].kind == "synthesised"
    assert grid.slices[8].kind == "acquired"


def test_the_nearest_slice_takes_the_place_of_one_that_is_not_generated() -> None:
    grid = make_grid(4, 5.0, 2.0)
    assert grid.counts() == {"acquired": 2, "interpolated": 6}
    assert [s.weights for s in grid.slices[:3]] == [((0, 1),), ((2, 1),), ((3, 1),)]
    assert [grid.shift(s) for s in grid.slices[:3]] == pytest.approx([0, 0.5, -0.25])
    assert grid.generated_rounds() == [[2, 6, 10], [3, 5, 11]]


def test_the_nearest_slice_may_be_an_acquired_one() -> None:
    grid = make_grid(5, 2.5, 1.7)
    kinds = ["acquired", "interpolated", "interpolated", "shifted", "interpolated", "interpolated"]
    assert [s.kind for s in grid.slices] == kinds
    assert [s.is_copy for s in grid.slices] == [True, False, False, True, False, False]
    assert grid.shift(grid.slices[3]) == pytest.approx(-0.1)
    assert "shifted" not in make_grid(5, 2.5, 1.7, interpolator="linear").counts()


@given(COUNTS, SPACINGS, SPACINGS, st.sampled_from(GRIDS))
def test_the_nearest_slices_are_near_and_each_is_taken_once(
    count: int, a: float, b: float, name: GridName
) -> None:
    if b > a:
        return
    grid = make_grid(count, a, b, name)
    inside = [s for s in grid.slices if s.kind != "extrapolated"]
    assert all(abs(grid.shift(s)) <= b * (0.5 + SNAP) for s in inside)
    assert len({s.weights[0].node for s in inside}) == len(inside)
    for other in INTERPOLATORS:
        kinds = [s.kind for s in make_grid(count, a, b, name, other).slices]
        assert kinds.count("acquired") == grid.counts().get("acquired", 0)


def test_one_more_round_avoids_interpolation() -> None:
    grid = make_grid(4, 2.5, 1.25, "ibsi")
    assert grid.rounds == 2
    assert grid.counts() == {"extrapolated": 2, "synthesised": 6}
    assert grid.generated_rounds() == [[2, 6, 10], [1, 3, 5, 7, 9, 11]]


def test_numbers_do_not_depend_on_the_spacing() -> None:
    coarse, fine = make_grid(9, 2.0, 1.0), make_grid(9, 2.0, 0.25)
    assert coarse.number(7) == (3 << 16) + (1 << 15) == fine.number(28)


@given(COUNTS, SPACINGS, SPACINGS)
def test_ibsi_aligns_centres(count: int, a: float, b: float) -> None:
    if b > a:
        return
    grid = make_grid(count, a, b, "ibsi")
    number = math.ceil(round(count * a / b, 9))
    assert len(grid.slices) == number
    start = (a * (count - 1) - b * (number - 1)) / 2
    assert grid.first * a == pytest.approx(start, abs=1e-9)


@given(COUNTS, SPACINGS, SPACINGS)
def test_corner_aligns_corners(count: int, a: float, b: float) -> None:
    if b > a:
        return
    grid = make_grid(count, a, b, "corner")
    assert len(grid.slices) == math.ceil(round(count * a / b, 9))
    assert grid.first == pytest.approx(0.5 * (b - a) / a)


@given(COUNTS, SPACINGS, SPACINGS)
@example(30, 2.5, 0.6)
@settings(deadline=None)
def test_corner_is_pyradiomics_grid(count: int, a: float, b: float) -> None:
    """As it resamples a mask of everything; a rounding error earns it one more slice."""
    operations = pytest.importorskip("radiomics.imageoperations")
    if b >= a:
        return
    image = sitk.GetImageFromArray(np.ones((count, 2, 2), np.int16))
    image.SetSpacing((1, 1, a))
    resampled, _ = operations.resampleImage(image, image, resampledPixelSpacing=[1, 1, b])
    grid = make_grid(count, a, b, "corner")
    number = count * (a / b)
    more = math.ceil(number) - math.ceil(round(number, 9))
    assert len(grid.slices) + more == resampled.GetSize()[2]
    assert grid.first * a == pytest.approx(resampled.GetOrigin()[2])
    assert grid.spacing == pytest.approx(resampled.GetSpacing()[2])


@given(COUNTS, SPACINGS, SPACINGS, st.sampled_from(GRIDS), st.sampled_from(INTERPOLATORS))
def test_every_grid(
    count: int, a: float, b: float, name: GridName, interpolator: Interpolator
) -> None:
    if b > a:
        return
    grid = make_grid(count, a, b, name, interpolator)
    known = set(range(0, ((count - 1) << grid.rounds) + 1, 1 << grid.rounds))
    for nodes in grid.generated_rounds():
        assert all(set(parents(node)) <= known for node in nodes)
        known |= set(nodes)
    for output, position in zip(
        grid.slices, grid.first + np.arange(len(grid.slices)) * b / a, strict=True
    ):
        assert output.position == pytest.approx(position, abs=3e-3)
        assert {w.node for w in output.weights} <= known
        assert sum(w.share for w in output.weights) == pytest.approx(1)
        assert (output.kind == "extrapolated") == (not -3e-3 < position < count - 1 + 3e-3)


@given(COUNTS, SPACINGS, SPACINGS)
def test_keep_slices_never_extrapolates_and_reaches_the_end(count: int, a: float, b: float) -> None:
    if b > a:
        return
    grid = make_grid(count, a, b)
    assert grid.slices[0].kind == "acquired"
    assert "extrapolated" not in grid.counts()
    assert grid.slices[-1].position > count - 1 - b / a


def test_spacings_rounded_by_a_file_format_still_meet_the_slices() -> None:
    grid = make_grid(600, float(np.float32(0.7)) * 2, 0.7)
    assert grid.counts() == {"acquired": 600, "synthesised": 599}


def test_a_reference_with_the_same_slices_needs_no_interpolation() -> None:
    grid = reference_grid(5, 2.0, 1.0, 1.0, 6)
    assert grid.counts() == {"acquired": 3, "synthesised": 3}


def test_a_reference_far_beyond_is_refused() -> None:
    with pytest.raises(GeometryError, match="beyond"):
        reference_grid(5, 2.0, 1.0, 0.0, 20)


@pytest.mark.parametrize("spacing", [0, -1, math.nan, math.inf, 2.6, 0.001])
def test_spacings_that_cannot_be_met(spacing: float) -> None:
    with pytest.raises(UsageError):
        make_grid(5, 2.5, spacing)


@pytest.mark.parametrize("source_spacing", [math.nan, math.inf])
def test_an_input_whose_spacing_cannot_be(source_spacing: float) -> None:
    with pytest.raises(UsageError, match="finite"):
        make_grid(5, source_spacing, 1.25)


def test_unknown_grid() -> None:
    with pytest.raises(UsageError, match="keep-slices"):
        make_grid(5, 2.5, 1.25, "middle")  # type: ignore[arg-type]
