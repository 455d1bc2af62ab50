"""Windows cover a slice once, in an order in which everything that they know is there."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pmtool.errors import UsageError
from pmtool.sampling.windows import (
    SMALLEST,
    SUB_PATCH,
    Window,
    balanced,
    check_window,
    padded_size,
    spans,
    wavefronts,
)

SIZES = st.integers(1, 400).map(padded_size)
WINDOWS = st.integers(SMALLEST // 4, 60).map(lambda n: 4 * n)
SHAPES, SHAPES_OF_WINDOWS = st.tuples(SIZES, SIZES), st.tuples(WINDOWS, WINDOWS)


def whole(window: Window) -> tuple[slice, slice]:
    return (
        slice(window.top, window.top + window.height),
        slice(window.left, window.left + window.width),
    )


def generated(window: Window) -> tuple[slice, slice]:
    """What the window adds to the slice."""
    rows, columns = whole(window)
    return (
        slice(rows.start + window.known_rows, rows.stop),
        slice(columns.start + window.known_columns, columns.stop),
    )


def counts(shape: tuple[int, int], fronts: list[list[Window]]) -> NDArray[np.int_]:
    times = np.zeros(shape, int)
    for front in fronts:
        for window in front:
            times[generated(window)] += 1
    return times


@given(SHAPES, SHAPES_OF_WINDOWS)
def test_every_pixel_is_generated_once(shape: tuple[int, int], window: tuple[int, int]) -> None:
    assert (counts(shape, wavefronts(shape, window)) == 1).all()


@given(SHAPES, SHAPES_OF_WINDOWS)
def test_windows_know_what_earlier_wavefronts_generated(
    shape: tuple[int, int], window: tuple[int, int]
) -> None:
    done = np.zeros(shape, bool)
    for front in wavefronts(shape, window):
        for w in front:
            known = done[whole(w)]
            assert known.shape == (w.height, w.width)
            assert known[: w.known_rows].all()
            assert known[:, : w.known_columns].all()
        for w in front:
            done[generated(w)] = True


@given(SHAPES, SHAPES_OF_WINDOWS)
def test_windows_of_a_wavefront_are_independent(
    shape: tuple[int, int], window: tuple[int, int]
) -> None:
    """None reads what another of them writes, known parts included."""
    for front in wavefronts(shape, window):
        for one, other in combinations(front, 2):
            written = np.zeros(shape, bool)
            written[generated(one)] = True
            rows, columns = whole(other)
            read = written[rows, columns]
            assert not read[: other.known_rows].any()
            assert not read[:, : other.known_columns].any()


@given(SHAPES, SHAPES_OF_WINDOWS)
def test_what_graphs_ask_of_windows(shape: tuple[int, int], window: tuple[int, int]) -> None:
    for front in wavefronts(shape, window):
        for w in front:
            assert (w.height, w.width) == tuple(
                min(a, b) for a, b in zip(window, shape, strict=True)
            )
            assert all(n % 4 == 0 for n in w)
            assert w.known_rows == 0 or SUB_PATCH <= w.known_rows < w.height
            assert w.known_columns == 0 or SUB_PATCH <= w.known_columns < w.width


def test_the_paper_s_windows() -> None:
    fronts = wavefronts((512, 512), (64, 64))
    assert len(fronts) == 29
    assert sum(len(front) for front in fronts) == 225
    kinds = {w[4:] for front in fronts for w in front}
    assert kinds == {(0, 0), (0, 32), (32, 0), (32, 32)}


def test_the_last_window_is_shifted_back_to_the_border() -> None:
    assert [tuple(span) for span in spans(100, 64)] == [(0, 64, 0), (32, 64, 32), (36, 64, 60)]


def test_a_window_as_large_as_the_slice_is_the_only_one() -> None:
    assert wavefronts((100, 132), (100, 132)) == [[Window(0, 0, 100, 132, 0, 0)]]


@given(st.integers(1, 3000))
def test_padded_size(size: int) -> None:
    padded = padded_size(size)
    assert padded % 4 == 0
    assert padded == SMALLEST or 0 <= padded - size < 4


@given(SIZES, WINDOWS)
def test_a_balanced_window_needs_no_more_windows(size: int, window: int) -> None:
    smaller = balanced(size, window)
    assert smaller <= max(window, SMALLEST)
    assert len(spans(size, smaller)) == len(spans(size, window))


@pytest.mark.parametrize("size", [0, 32, 60, 66, 65, -64])
def test_impossible_windows(size: int) -> None:
    with pytest.raises(UsageError, match=f"a window of {size} pixels .* multiple of 4"):
        check_window(size)
