"""Scores of all slices and methods, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float64s
from pmtool.evaluation.agreement import scaled_errors
from pmtool.evaluation.noise_power import BINS
from pmtool.evaluation.scan import ScanSlice
from pmtool.evaluation.scoring import REFERENCE, Scores

MEASURES = ("edge_share", "epr", "psnr", "ssim", "mae_hu", "noise_hu", "odd_even_noise")
FEWEST_SCANS = 6
"""Smallest number of scans for a comparison by scan: with fewer, no test can reach p < 0.05."""


@dataclass(frozen=True)
class Results:
    """Scores from which all summaries are computed; NaN where a value is unknown.

    Attributes
    ----------
    methods
        Names of the M methods.
    units
        The N slices.
    values
        Values ``(M, N)`` by measure.
    truth
        The same measures for the reference, ``(N,)``: its noise and, for example, 1 for EPR.
    features, texture, texture_truth
        Names of the F texture features, and their values ``(M, N, F)`` for the methods and
        ``(N, F)`` for the reference.
    map_features, maps
        Names of the features of the maps, and the maps' mean squared errors ``(M, N, 23)``.
    noise_power
        Mean spectra of the methods and of the reference, by name, in HU^2 pixel^2.
    """

    methods: list[str]
    units: list[ScanSlice]
    values: dict[str, Float64s]
    truth: dict[str, Float64s]
    features: list[str]
    texture: Float64s
    texture_truth: Float64s
    map_features: list[str]
    maps: Float64s
    noise_power: dict[str, list[float]]

    @property
    def texture_errors(self) -> Float64s:
        """Absolute errors of the features, scaled to [0, 1]: ``(M, N, F)``."""
        return scaled_errors(np.abs(self.texture - self.texture_truth))

    @property
    def map_errors(self) -> Float64s:
        """Root mean squared errors of the feature maps, scaled to [0, 1]: ``(M, N, 23)``.

        The paper averages squared errors. Their root has the feature's own unit, like a texture
        error, and keeps a few slices with large errors from dominating the mean.
        """
        return scaled_errors(np.sqrt(self.maps))

    @property
    def by_scan(self) -> bool:
        """Whether methods are compared scan by scan instead of slice by slice."""
        return len(set(self.scans)) >= FEWEST_SCANS

    @property
    def scans(self) -> list[str]:
        """Names of the scans of all slices."""
        return [unit.scan for unit in self.units]

    @property
    def cases(self) -> list[NDArray[np.intp]]:
        """Indices of the slices of every case: of a scan if scans are compared, else of a slice."""
        if not self.by_scan:
            return list(np.arange(len(self.units))[:, None])
        scans = np.array(self.scans)
        return [np.flatnonzero(scans == name) for name in dict.fromkeys(self.scans)]

    def per_case(self, values: Float64s) -> Float64s:
        """Average values ``(M, N)`` over the slices of every case."""
        return np.stack([values[:, case].mean(axis=1) for case in self.cases], axis=1)


def collect(scores: Sequence[tuple[ScanSlice, dict[str, Scores]]]) -> Results:
    """Collect the scores of slices, all of which have the reference and the same methods."""
    methods = [name for name in scores[0][1] if name != REFERENCE]
    columns = [REFERENCE, *methods]
    values = {
        name: np.array([[s[m].values[name] for _, s in scores] for m in columns])
        for name in MEASURES
    }
    features = names_of([s[m].texture for _, s in scores for m in columns])
    map_features = names_of([s[m].maps for _, s in scores for m in methods])
    texture = np.stack([table_of([s[m].texture for _, s in scores], features) for m in columns])
    return Results(
        methods=methods,
        units=[unit for unit, _ in scores],
        values={name: rows[1:] for name, rows in values.items()},
        truth={name: rows[0] for name, rows in values.items()},
        features=features,
        texture=texture[1:],
        texture_truth=texture[0],
        map_features=map_features,
        maps=np.stack([table_of([s[m].maps for _, s in scores], map_features) for m in methods]),
        noise_power={m: _mean_spectrum([s[m].noise_power for _, s in scores]) for m in columns},
    )


def names_of(rows: Sequence[dict[str, float]]) -> list[str]:
    """Names of all features that occur in any row."""
    return list(dict.fromkeys(name for row in rows for name in row))


def table_of(rows: Sequence[dict[str, float]], names: Sequence[str]) -> Float64s:
    """Arrange values as an array ``(rows, names)``; NaN where a row lacks a name."""
    table = [[row.get(name, np.nan) for name in names] for row in rows]
    return np.array(table, np.float64).reshape(len(rows), len(names))


def _mean_spectrum(spectra: Sequence[list[float]]) -> list[float]:
    measured = [spectrum for spectrum in spectra if spectrum]
    if not measured:
        return [float("nan")] * BINS
    return [float(x) for x in np.mean(measured, axis=0)]
