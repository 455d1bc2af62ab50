"""Computing all measures of one slice, for every method."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pmtool.arrays import Slice
from pmtool.evaluation import texture
from pmtool.evaluation.edges import edge_map, edge_preservation, edge_share
from pmtool.evaluation.glcm_maps import WINDOW, feature_maps, grey_levels, map_errors
from pmtool.evaluation.lungs import Region
from pmtool.evaluation.noise_power import Place, homogeneous_place, noise, noise_power
from pmtool.evaluation.pixel_errors import (
    mean_absolute_error,
    peak_signal_to_noise,
    structural_similarity,
)
from pmtool.images.hounsfield import CT_RANGE

REFERENCE = "reference"
VERSION = 1
"""Version of the measures; raise it when one changes, so that stored scores are not used."""
MEASURED_BY = ("opencv-python-headless", "pyradiomics", "scikit-image", "scipy")
"""Packages that compute the measures; scores from other versions of them are not used either."""


class Task(NamedTuple):
    """A slice to score.

    Attributes
    ----------
    above, below
        Its acquired neighbours.
    truth
        The slice itself.
    results
        Slices that the methods made, by method, and the truth itself as ``reference``.
    region
        Mask of the region in which texture is measured.
    pixel
        Spacing of rows and of columns in mm.
    """

    above: Slice
    truth: Slice
    below: Slice
    results: dict[str, Slice]
    region: Region
    pixel: tuple[float, float]


class Scores(NamedTuple):
    """Measures of one slice.

    Attributes
    ----------
    values
        ``edge_share``, ``epr``, ``psnr``, ``ssim``, ``mae_hu``, ``noise_hu`` and
        ``odd_even_noise``, the noise of the slice over that of its acquired neighbours.
    texture
        Texture by feature; empty without a region or pyradiomics.
    maps
        Mean squared error of the map of every GLCM feature; empty for the truth.
    noise_power
        Noise power spectrum; empty if no homogeneous piece was found.
    """

    values: dict[str, float]
    texture: dict[str, float]
    maps: dict[str, float]
    noise_power: list[float]


def score(task: Task) -> dict[str, Scores]:
    """Score every result, on slices clipped to `CT_RANGE`."""
    task = _clipped(task)
    place = homogeneous_place(np.stack([task.above, task.truth, task.below]))
    edges = edge_map(task.truth)
    others = [name for name in task.results if name != REFERENCE]
    measured = others and min(task.truth.shape) >= WINDOW
    maps = feature_maps(grey_levels(task.truth)) if measured else None
    scores = {}
    for name, result in task.results.items():
        result_edges = edge_map(result)
        values = {
            "edge_share": edge_share(result_edges, edges),
            "epr": edge_preservation(result_edges, edges),
            "psnr": peak_signal_to_noise(result, task.truth),
            "ssim": structural_similarity(result, task.truth),
            "mae_hu": mean_absolute_error(result, task.truth),
            **_noise(task, result, place),
        }
        errors = {}
        if maps is not None and name != REFERENCE:
            errors = map_errors(feature_maps(grey_levels(result)), maps)
        scores[name] = Scores(
            values,
            _texture(task, result),
            errors,
            noise_power(result, place) if place else [],
        )
    return scores


def _clipped(task: Task) -> Task:
    slices = {name: getattr(task, name).clip(*CT_RANGE) for name in ("above", "truth", "below")}
    results = {name: values.clip(*CT_RANGE) for name, values in task.results.items()}
    return task._replace(**slices, results=results)


def _texture(task: Task, result: Slice) -> dict[str, float]:
    if not texture.is_available():
        return {}
    return texture.slice_texture(result, task.region, task.pixel)


def _noise(task: Task, result: Slice, place: Place | None) -> dict[str, float]:
    if place is None:
        return {"noise_hu": math.nan, "odd_even_noise": math.nan}
    acquired = (noise(task.above, place) + noise(task.below, place)) / 2
    level = noise(result, place)
    return {"noise_hu": level, "odd_even_noise": level / acquired if acquired else math.nan}
