"""Pictures of the report: the paper's figure 5, with differences from the truth."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pmtool.arrays import Slice
from pmtool.evaluation.lungs import Region
from pmtool.evaluation.run import Case
from pmtool.evaluation.scoring import REFERENCE
from pmtool.evaluation.tables import label
from pmtool.images.display import LUNG_WINDOW, grey, png, upright_slice

DIFFERENCES = (-300.0, 300.0)
"""Differences in HU that are shown as black and as white; equal pixels are grey."""
CROP = 96
"""Number of rows and of columns of a crop."""
EXAMPLES = 2

_ZOOM = 2
_OVERVIEW_WIDTH = 2 * CROP * _ZOOM


class Panel(NamedTuple):
    """A method's result for a piece and its difference from the truth, as data URIs of PNGs."""

    name: str
    crop: str
    difference: str


class Example(NamedTuple):
    """A slice and the panels of the piece that is shown."""

    title: str
    overview: str
    panels: list[Panel]


def examples(cases: Sequence[Case]) -> list[Example]:
    """Examples at a third and at two thirds of the first scan's scored slices."""
    case = cases[0]
    places = {(number + 1) * len(case.indices) // (EXAMPLES + 1) for number in range(EXAMPLES)}
    return [_example(case, case.indices[place]) for place in sorted(places)]


def _example(case: Case, index: int) -> Example:
    volume = case.scan.geometry
    truth = upright_slice(case.scan.truth(index), volume)
    top, left = _busiest(truth, upright_slice(case.scan.region(index), volume))
    piece = slice(top, top + CROP), slice(left, left + CROP)
    names = [*(name for name in case.makers if name != REFERENCE), REFERENCE]
    panels = []
    for name in names:
        values = upright_slice(case.makers[name](index), volume)[piece].astype(np.float64)
        difference = values - truth[piece]
        images = _png(grey(values)), _png(grey(difference, DIFFERENCES))
        panels.append(Panel(label(name), *images))
    overview = _framed(grey(truth), top, left)
    return Example(f"{case.scan.name}, slice {index}", overview, panels)


def _busiest(truth: Slice, region: Region) -> tuple[int, int]:
    """Find the piece with the strongest edges in the region; return its first row and column."""
    from scipy.ndimage import gaussian_gradient_magnitude, uniform_filter

    edges = gaussian_gradient_magnitude(truth.clip(*LUNG_WINDOW).astype(np.float64), 1.0)
    detail = uniform_filter(edges * region, CROP, mode="constant")
    row, column = np.unravel_index(detail.argmax(), detail.shape)
    height, width = truth.shape
    top = min(max(int(row) - CROP // 2, 0), max(height - CROP, 0))
    left = min(max(int(column) - CROP // 2, 0), max(width - CROP, 0))
    return top, left


def _framed(values: NDArray[np.uint8], top: int, left: int) -> str:
    picture = Image.fromarray(values).convert("RGB")
    ImageDraw.Draw(picture).rectangle((left, top, left + CROP, top + CROP), outline="red", width=2)
    picture.thumbnail((_OVERVIEW_WIDTH, _OVERVIEW_WIDTH))
    return _uri(picture)


def _png(values: NDArray[np.uint8]) -> str:
    return _uri(Image.fromarray(values.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)))


def _uri(picture: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()
