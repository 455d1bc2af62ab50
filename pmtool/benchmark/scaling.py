"""Measure how the time grows with the scan: few slices or many, small or large."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

from pmtool.benchmark.scene import make_scene
from pmtool.sampling.pairs import SlicePair

PAIRS = (1, 8, 40, 150)
SIZES = (128, 256, 512, 1024)


class Point(NamedTuple):
    """A scan: its number of slice pairs, and the height and width of a slice in pixels."""

    pairs: int
    size: int

    @property
    def pixels(self) -> int:
        """Number of generated pixels."""
        return self.pairs * self.size**2


class Scaling(NamedTuple):
    """Seconds for scans.

    Attributes
    ----------
    budget
        Seconds that the measurement was allowed to take.
    seconds
        Seconds by scan.
    left_out
        Scans that were not measured because they would have taken too long.
    """

    budget: float
    seconds: dict[Point, float]
    left_out: list[Point]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "budget": self.budget,
            "measured": [{**x._asdict(), "seconds": s} for x, s in self.seconds.items()],
            "left_out": [point._asdict() for point in self.left_out],
        }


def measure_scaling(
    generate: Callable[[Sequence[SlicePair], Point], float], budget: float
) -> Scaling:
    """Time scans, the smallest first, as long as the next one is expected to fit into the budget.

    The next scan is expected to take as long per pixel as the one before. The smallest is always
    measured.

    Parameters
    ----------
    generate
        Generates the slices of a scan's pairs and returns the seconds that this took.
    budget
        Seconds for all scans together.
    """
    points = sorted((Point(*x) for x in product(PAIRS, SIZES)), key=lambda point: point.pixels)
    seconds: dict[Point, float] = {}
    start, per_pixel = time.perf_counter(), 0.0
    for number, point in enumerate(points):
        spent = time.perf_counter() - start
        if seconds and spent + per_pixel * point.pixels > budget:
            return Scaling(budget, seconds, points[number:])
        seconds[point] = generate(_scan(point), point)
        per_pixel = seconds[point] / point.pixels
    return Scaling(budget, seconds, [])


def _scan(point: Point) -> list[SlicePair]:
    """Repeat one pair of the phantom: the work does not depend on the content."""
    (pair,) = make_scene(None, 1, point.size).pairs
    return [pair._replace(number=number) for number in range(point.pairs)]
