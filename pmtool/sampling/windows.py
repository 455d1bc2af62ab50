"""The windows in which a slice is generated, and which of them are independent.

See section 2.3 and figure 3 of the paper: windows overlap by the width of a sub-patch; the first is
generated whole, and every other one only where no earlier window lies.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

from pmtool.errors import UsageError
from pmtool.models.hyperparameters import COARSEST

SUB_PATCH = 32
SMALLEST = 64
MULTIPLE = COARSEST
"""Window sizes are multiples of this."""


class Window(NamedTuple):
    """A window in pixels of the padded slice; its first rows and columns may be known already."""

    top: int
    left: int
    height: int
    width: int
    known_rows: int
    known_columns: int

    @property
    def area(self) -> tuple[slice, slice]:
        """Its rows and columns of the padded slice."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class Span(NamedTuple):
    """Extent of a window along one axis: start, size, and how much of it is known."""

    start: int
    size: int
    known: int


def padded_size(size: int) -> int:
    """The smallest size that windows can cover: a multiple of 4, and at least 64."""
    return max(SMALLEST, -(-size // MULTIPLE) * MULTIPLE)


def check_window(size: int) -> None:
    """Raise `UsageError` for a window under 64 pixels or not a multiple of 4."""
    if size < SMALLEST or size % MULTIPLE:
        raise UsageError(
            f"a window of {size} pixels is not possible: use a multiple of {MULTIPLE}, "
            f"{SMALLEST} or more"
        )


def spans(size: int, window: int) -> list[Span]:
    """Windows along one axis of a padded slice; the last one is shifted back to the border."""
    window = min(window, size)
    last = size - window
    starts = [*range(0, last, window - SUB_PATCH), last]
    return [
        Span(start, window, before + window - start if start else 0)
        for before, start in pairwise([0, *starts])
    ]


def balanced(size: int, window: int) -> int:
    """The smallest size that covers an axis with no more windows than ``window`` does."""
    count = len(spans(size, window))
    per_window = -(-(size - SUB_PATCH) // count)
    return min(size, padded_size(per_window + SUB_PATCH))


def wavefronts(shape: tuple[int, int], window: tuple[int, int]) -> list[list[Window]]:
    """Windows by anti-diagonal; those on the same one are independent of each other.

    Parameters
    ----------
    shape
        Height and width of the padded slice, see `padded_size`.
    window
        Height and width of a window, see `check_window`.
    """
    rows, columns = spans(shape[0], window[0]), spans(shape[1], window[1])
    return [
        [
            Window(y.start, x.start, y.size, x.size, y.known, x.known)
            for i, y in enumerate(rows)
            for j, x in enumerate(columns)
            if i + j == diagonal
        ]
        for diagonal in range(len(rows) + len(columns) - 1)
    ]


def pixels_of_windows(shape: tuple[int, int], window: tuple[int, int]) -> int:
    """Number of pixels in all windows of a slice; those that windows share count in each."""
    return sum(w.height * w.width for front in wavefronts(shape, window) for w in front)


def alike_windows(shape: tuple[int, int], window: tuple[int, int]) -> list[list[Window]]:
    """`wavefronts`, each divided by the windows' known rows and columns, which a batch shares."""
    known = attrgetter("known_rows", "known_columns")
    return [
        list(windows)
        for front in wavefronts(shape, window)
        for _, windows in groupby(sorted(front, key=known), key=known)
    ]
