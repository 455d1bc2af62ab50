"""Summary of an evaluation by method: means, intervals, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float64s
from pmtool.evaluation import texture
from pmtool.evaluation.agreement import REPRODUCIBLE, concordance, is_constant
from pmtool.evaluation.results import Results
from pmtool.evaluation.statistics import bootstrap_interval

MEASURE_NAMES = {
    "edge_share": "Edge share (0.5 is best)",
    "epr": "EPR",
    "texture_nrmse": "Texture NRMSE",
    "ccc_mean": "Mean CCC of texture",
    "ccc_share": "Features with CCC >= 0.85",
    "msmfe": "MSMFE",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "mae_hu": "MAE, HU",
    "odd_even_noise": "Noise, made / acquired (1 is best)",
}

Indices = NDArray[np.intp]
Figures = dict[str, dict[str, float | None]]
"""Measures by method and by the keys of `MEASURE_NAMES`; None if unknown."""


def summary(results: Results) -> Figures:
    """Measures of every method, by the keys of `MEASURE_NAMES`; None if unknown.

    They are means over slices or, for texture and feature maps, over slices and features.
    ``ccc_mean`` is the mean concordance of the features, and ``ccc_share`` the share of features
    with a concordance of at least 0.85.
    """
    everything = np.arange(len(results.units))
    return {
        method: {key: plain(statistic(everything)) for key, statistic in by_key.items()}
        for method, by_key in _statistics(results).items()
    }


def intervals(results: Results) -> dict[str, dict[str, list[float] | None]]:
    """95 % bootstrap intervals of the measures, drawn over slices, or over scans if there are many.

    An interval is None for fewer than two slices. Slices of one scan resemble each other, so
    intervals over slices hold only for the scored scans.
    """
    cases = results.cases

    def interval(statistic: Callable[[Indices], float]) -> list[float] | None:
        def of_drawn(drawn: Indices) -> float:
            return statistic(np.concatenate([cases[i] for i in drawn]))

        bounds = bootstrap_interval(of_drawn, len(cases))
        return None if bounds is None else list(bounds)

    return {
        method: {key: interval(statistic) for key, statistic in by_key.items()}
        for method, by_key in _statistics(results).items()
    }


def left_out(results: Results) -> dict[str, Any]:
    """Counts of the values that no figure includes because they are unknown or infinite.

    Constant features are named.
    """
    constant = is_constant(results.texture_truth)
    values = np.concatenate([results.texture, results.texture_truth[None]])
    no_region = np.isnan(results.texture_truth).all(axis=1) & texture.is_available()
    names = [x for x, is_one in zip(results.features, constant, strict=True) if is_one]
    return {
        "constant_features": names,
        "unknown_texture_values": int(np.isnan(values[:, ~no_region]).sum()),
        "slices_without_region": int(no_region.sum()),
        "slices_without_homogeneous_piece": int(np.isnan(results.truth["noise_hu"]).sum()),
        "slices_without_error": int(np.isinf(results.values["psnr"]).sum()),
    }


def _statistics(results: Results) -> dict[str, dict[str, Callable[[Indices], float]]]:
    """Every measure of every method, as a function of the indices of the slices to include."""
    texture, maps = results.texture_errors, results.map_errors
    return {
        method: {
            **{
                key: _mean_of(results.values[key][row])
                for key in MEASURE_NAMES
                if key in results.values
            },
            "texture_nrmse": _mean_of(texture[row]),
            "msmfe": _mean_of(maps[row]),
            "ccc_mean": _concordance(results, row, known_mean),
            "ccc_share": _concordance(results, row, reproducible),
        }
        for row, method in enumerate(results.methods)
    }


def reproducible(concordances: Float64s) -> float:
    """Share of the features with a known concordance that reach 0.85."""
    finite = concordances[np.isfinite(concordances)]
    return float(np.mean(finite >= REPRODUCIBLE)) if finite.size else math.nan


def _mean_of(values: Float64s) -> Callable[[Indices], float]:
    return lambda slices: known_mean(values[slices])


def known_mean(values: Float64s) -> float:
    """Mean of the finite values; NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else math.nan


def _concordance(
    results: Results, row: int, statistic: Callable[[Float64s], float]
) -> Callable[[Indices], float]:
    texture, truth = results.texture[row], results.texture_truth
    return lambda slices: statistic(concordance(texture[slices], truth[slices]))


def plain(value: float) -> float | None:
    """Convert a figure for JSON, which has no NaN."""
    return float(value) if math.isfinite(value) else None
