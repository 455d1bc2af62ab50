"""The quality of each run: edges and texture of its slices, compared with the true slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pmtool.arrays import Float64s, Slice
from pmtool.benchmark.scene import Scene
from pmtool.errors import UsageError
from pmtool.evaluation import texture
from pmtool.evaluation.agreement import scaled_errors
from pmtool.evaluation.edges import edge_map, edge_preservation, edge_share
from pmtool.evaluation.lungs import air_in_lungs, lung_region
from pmtool.evaluation.results import names_of, table_of
from pmtool.evaluation.statistics import bootstrap_interval
from pmtool.evaluation.summary import known_mean
from pmtool.images.hounsfield import CT_RANGE
from pmtool.system.extras import require

Interval = tuple[float, float] | None


class Quality(NamedTuple):
    """A measure of a run's slices.

    Attributes
    ----------
    mean, interval
        Mean over the slices and its 95 % bootstrap interval.
    difference, difference_interval
        Mean difference from the reference run, slice by slice, and its interval; None for the
        reference run itself.
    """

    mean: float
    interval: Interval
    difference: float | None
    difference_interval: Interval


class Qualities(NamedTuple):
    """Measures by run and name, and the reasons why others are left out."""

    by_run: dict[str, dict[str, Quality]]
    left_out: dict[str, str]


def qualities(results: Mapping[str, Sequence[Slice]], scene: Scene) -> Qualities:
    """EPR, edge share and texture NRMSE of the runs, by name; the first run is the reference.

    Measures whose packages are not installed are left out, as is texture if there are no lungs.
    Texture is not measured on the phantom.
    """
    by_run: dict[str, dict[str, Quality]] = {name: {} for name in results}
    left_out = {}
    for kind, measure_all in {"edges": _edges, "texture": _texture}.items():
        try:
            measured = measure_all(results, scene)
        except UsageError as error:
            left_out[kind] = str(error)
            continue
        for measure, rows in measured.items():
            for name, row in zip(results, rows, strict=True):
                by_run[name][measure] = _quality(row, None if row is rows[0] else rows[0])
    return Qualities(by_run, left_out)


def _quality(values: Float64s, reference: Float64s | None) -> Quality:
    if reference is None:
        return Quality(known_mean(values), _interval(values), None, None)
    difference = values - reference
    return Quality(
        known_mean(values), _interval(values), known_mean(difference), _interval(difference)
    )


def _interval(values: Float64s) -> Interval:
    return bootstrap_interval(lambda indices: known_mean(values[indices]), len(values))


def _edges(results: Mapping[str, Sequence[Slice]], scene: Scene) -> dict[str, list[Float64s]]:
    """Edge scores by measure, one array over the slices per run.

    Raises
    ------
    UsageError
        If OpenCV is not installed.
    """
    require("Canny", ("cv2",), "pmtool[evaluate]")
    truths = [edge_map(truth) for truth in scene.truths]
    maps = [[edge_map(values) for values in slices] for slices in results.values()]
    return {
        name: [np.array([measure(a, b) for a, b in zip(row, truths, strict=True)]) for row in maps]
        for name, measure in (("epr", edge_preservation), ("edge_share", edge_share))
    }


def _texture(results: Mapping[str, Sequence[Slice]], scene: Scene) -> dict[str, list[Float64s]]:
    """Scores of texture in the lungs, one array over the slices per run; empty for the phantom.

    Raises
    ------
    UsageError
        If a package is not installed, or there are no lungs.
    """
    if not scene.real:
        return {}
    if not texture.is_available():
        raise UsageError(texture.MISSING)
    require("finding lungs", ("skimage",), "pmtool[evaluate]")
    air = air_in_lungs(np.stack(scene.truths), scene.pixel)
    regions = [lung_region(values, scene.pixel) for values in air]
    if not any(region.any() for region in regions):
        raise UsageError("there are no lungs in these slices")

    def features(slices: Sequence[Slice]) -> list[dict[str, float]]:
        return [
            texture.slice_texture(values.clip(*CT_RANGE), region, scene.pixel)
            for values, region in zip(slices, regions, strict=True)
        ]

    truth = features(scene.truths)
    names = names_of(truth)
    measured = np.stack([table_of(features(slices), names) for slices in results.values()])
    errors = scaled_errors(np.abs(measured - table_of(truth, names)))
    return {"texture_nrmse": [np.array([known_mean(x) for x in run]) for run in errors]}
