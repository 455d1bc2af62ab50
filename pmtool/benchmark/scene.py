"""Slices for a benchmark with known truth: every second slice of a stack is dropped."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from pmtool.arrays import Slice
from pmtool.evaluation.scan import thin_scans
from pmtool.geometry.thickness import relative_thickness
from pmtool.images.display import SCORING_WINDOW
from pmtool.phantom.chest import FIELD_MM, chest_phantom
from pmtool.sampling.pairs import SlicePair

SPACING_MM = 1.25


class _Source(NamedTuple):
    """A scan's name, slices, spacing of pixels and relative thickness, see `SlicePair`."""

    name: str
    slices: Slice
    pixel: tuple[float, float]
    relative_thickness: float


class Scene(NamedTuple):
    """Slice pairs and the true slices between them, all ``(H, W)`` in HU.

    Attributes
    ----------
    name
        Name of the scan or the phantom.
    pairs, truths
        Slice pairs, and the true slice between the two of each pair.
    pixel
        Spacing of rows and of columns in mm.
    real
        Whether the scene is a scan rather than the phantom.
    """

    name: str
    pairs: list[SlicePair]
    truths: list[Slice]
    pixel: tuple[float, float]
    real: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a slice in pixels."""
        height, width = self.truths[0].shape
        return height, width

    @property
    def pixels(self) -> int:
        """Number of pixels to generate."""
        return sum(truth.size for truth in self.truths)

    def busiest(self, size: int) -> tuple[int, int, int]:
        """Index of the middle pair, and top and left of its window of largest standard deviation.

        The deviation is that of the truth clipped to `SCORING_WINDOW`.
        """
        middle = len(self.pairs) // 2
        truth = self.truths[middle].clip(*SCORING_WINDOW)
        tops, lefts = (range(0, max(1, extent - size + 1), size // 2) for extent in truth.shape)
        places = [(y, x) for y in tops for x in lefts]
        deviations = [truth[y : y + size, x : x + size].std() for y, x in places]
        return middle, *places[int(np.argmax(deviations))]


def make_scene(source: Path | None, pairs: int, size: int) -> Scene:
    """Create a scene of consecutive slices from the middle of a scan, or from the phantom.

    Raises
    ------
    InputError
        If the scan cannot be read.
    GeometryError
        If the scan has fewer than three slices.
    ContentError
        If the scan is not in HU.

    Warns
    -----
    UserWarning
        If slices of the scan depend on their neighbours.
    """
    name, slices, pixel, relative = (
        _phantom(pairs, size) if source is None else _scan(source, pairs)
    )
    outer = [np.ascontiguousarray(values) for values in slices[::2]]
    between = pairwise(outer)
    numbered = [SlicePair(above, below, relative, i) for i, (above, below) in enumerate(between)]
    truths = [np.ascontiguousarray(values) for values in slices[1::2]]
    return Scene(name, numbered, truths, pixel, source is not None)


def _phantom(pairs: int, size: int) -> _Source:
    pixel = FIELD_MM / size
    image = chest_phantom(size, 2 * pairs + 1, (pixel, pixel, SPACING_MM))
    relative = relative_thickness(SPACING_MM, SPACING_MM)
    return _Source("chest phantom", sitk.GetArrayFromImage(image), (pixel, pixel), relative)


def _scan(source: Path, pairs: int) -> _Source:
    (scan,) = thin_scans([source])
    pairs = min(pairs, (scan.count - 1) // 2)
    first = (scan.count - (2 * pairs + 1)) // 2
    slices = np.stack([scan.truth(first + i) for i in range(2 * pairs + 1)])
    relative = relative_thickness(scan.geometry.thickness, scan.geometry.spacing)
    return _Source(source.name, slices, scan.pixel, relative)
