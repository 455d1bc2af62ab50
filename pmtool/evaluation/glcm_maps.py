"""Maps of grey level co-occurrence features, for all windows of a slice at once.

The MSMFE is computed from these maps.

All matrices of a slice are counted together: for every pair of grey levels, an image of where the
pair occurs is summed over each window. The features are then computed as sums over these counts.
They are the features of `radiomics.glcm` in pyradiomics 3.0.1, with its names and its conventions
for flat windows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float64s
from pmtool.images.display import SCORING_WINDOW

LEVELS = 8
WINDOW = 5
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
"""Offsets from one pixel of a pair to the other, as rows and columns."""
FEATURES = (
    "Autocorrelation",
    "ClusterProminence",
    "ClusterShade",
    "ClusterTendency",
    "Contrast",
    "Correlation",
    "DifferenceAverage",
    "DifferenceEntropy",
    "DifferenceVariance",
    "Id",
    "Idm",
    "Idmn",
    "Idn",
    "Imc1",
    "Imc2",
    "InverseVariance",
    "JointAverage",
    "JointEnergy",
    "JointEntropy",
    "MaximumProbability",
    "SumAverage",
    "SumEntropy",
    "SumSquares",
)
"""The features of pyradiomics except MCC, which is an eigenvalue: 23 features, as in the paper."""

_ROWS_AT_ONCE = 16
"""Number of rows of windows to count at once, so few that the counts fit into the CPU's cache."""
_I, _J = (index + 1 for index in np.triu_indices(LEVELS))
"""The two levels of every unordered pair, counted from 1."""
_CODE = np.zeros((LEVELS, LEVELS), np.uint8)
_CODE[_I - 1, _J - 1] = _CODE[_J - 1, _I - 1] = np.arange(len(_I))
_MIDDLE = LEVELS + 1

Counts = NDArray[np.uint8]


def grey_levels(values: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Quantise a slice to 8 grey levels of equal width, 0 to 7, over `SCORING_WINDOW`.

    The levels are the same for all slices, so that maps of two slices can be compared.
    """
    low, high = SCORING_WINDOW
    width = (high - low) / LEVELS
    return ((values.clip(low, high - 1) - low) // width).astype(np.uint8)


def feature_maps(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of the symmetrical co-occurrence matrices of every 5x5 window at distance 1.

    Every feature is computed for each of the four directions and averaged over them.

    Parameters
    ----------
    levels
        Grey levels ``(H, W)``, 0 to 7; both sizes at least 5.

    Returns
    -------
    array
        Maps ``(23, H - 4, W - 4)``, in the order of `FEATURES`.
    """
    height, width = (size - WINDOW + 1 for size in levels.shape)
    maps = np.empty((len(FEATURES), height, width), np.float32)
    for top in range(0, height, _ROWS_AT_ONCE):
        rows = min(_ROWS_AT_ONCE, height - top)
        band = levels[top : top + rows + WINDOW - 1]
        directions = [_features(_pair_counts(band, step)) for step in DIRECTIONS]
        for index, name in enumerate(FEATURES):
            mean = np.mean([features[name] for features in directions], axis=0)
            maps[index, top : top + rows] = mean.reshape(rows, width)
    return maps


def map_errors(result: NDArray[np.float32], reference: NDArray[np.float32]) -> dict[str, float]:
    """Mean squared difference between the maps of two slices, by feature."""
    errors = np.square(result - reference).mean(axis=(1, 2), dtype=np.float64)
    return {name: float(error) for name, error in zip(FEATURES, errors, strict=True)}


def _pair_counts(levels: NDArray[np.uint8], step: tuple[int, int]) -> Counts:
    """Count each of the 36 unordered pairs in every window, ``(36, windows)``."""
    down, right = step
    height, width = levels.shape
    left, across = max(-right, 0), abs(right)
    one = levels[: height - down, left : left + width - across]
    other = levels[down:, left + right : left + right + width - across]
    matches = _CODE[one, other] == np.arange(len(_I), dtype=np.uint8)[:, None, None]
    rows = _sliding_sum(matches.view(np.uint8), WINDOW - down)
    counts = _sliding_sum(rows.swapaxes(1, 2), WINDOW - across).swapaxes(1, 2)
    return counts.reshape(len(_I), -1)


def _sliding_sum(values: Counts, size: int) -> Counts:
    """Sums of ``size`` consecutive entries along the middle axis."""
    length = values.shape[1] - size + 1
    total = values[:, :length].copy()
    for start in range(1, size):
        total += values[:, start : start + length]
    return total


def _linear() -> dict[str, NDArray[np.float32]]:
    """Contribution of each pair to sums over the matrix and to its histograms.

    The histograms, of ``|i - j|``, ``i + j`` and ``i``, have one row per bin. The matrix holds a
    pair at both ``(i, j)`` and ``(j, i)``, so that it counts twice in the histogram of ``i``.
    """
    k, s = _J - _I, _I + _J - _MIDDLE
    levels = np.arange(1, LEVELS + 1)[:, None]
    rows = {
        "differences": np.arange(LEVELS)[:, None] == k,
        "sums": np.arange(2 - _MIDDLE, _MIDDLE - 1)[:, None] == s,
        "levels": 1 * (levels == _I) + 1 * (levels == _J),
        "k": k,
        "k2": k**2,
        "s": s,
        "s2": s**2,
        "s3": s**3,
        "s4": s**4,
        "Id": 1 / (1 + k),
        "Idm": 1 / (1 + k**2),
        "Idn": 1 / (1 + k / LEVELS),
        "Idmn": 1 / (1 + k**2 / LEVELS**2),
        "InverseVariance": np.where(k > 0, 1 / np.maximum(k, 1) ** 2, 0),
    }
    return {name: np.atleast_2d(row).astype(np.float32) for name, row in rows.items()}


_LINEAR = _linear()
_MATRIX = np.concatenate(list(_LINEAR.values()))
_ROWS = np.cumsum([len(row) for row in _LINEAR.values()])[:-1]


def _features(counts: Counts) -> dict[str, Float64s]:
    """Features of one direction, ``(windows,)`` each, from the counts of pairs.

    With k = abs(i - j), s = i + j - 9 and means E over the symmetrical matrix, the variance of i is
    (var s + E[k^2]) / 4, the covariance of i and j (var s - E[k^2]) / 4.
    """
    total = int(counts[:, 0].sum())
    sums = dict(zip(_LINEAR, np.split(_MATRIX @ counts.astype(np.float32), _ROWS), strict=True))
    histograms = [sums.pop(name) for name in ("differences", "sums", "levels")]
    mean = {name: row[0].astype(np.float64) / total for name, row in sums.items()}
    s, k2 = mean["s"], mean["k2"]
    square = s * s
    spread = mean["s2"] - square
    variance, covariance = (spread + k2) / 4, (spread - k2) / 4
    average = (s + _MIDDLE) / 2
    of_difference, of_sum = (_entropy(h, total) for h in histograms[:2])
    of_level = _entropy(histograms[2], 2 * total)
    off, on = counts[_I != _J], counts[_I == _J]
    joint = 2 * _entropy(off, 2 * total) + _entropy(on, total)
    information = 2 * of_level - joint
    return {
        "Autocorrelation": covariance + average * average,
        "ClusterProminence": mean["s4"]
        - 4 * s * mean["s3"]
        + 3 * square * (2 * mean["s2"] - square),
        "ClusterShade": mean["s3"] - s * (3 * mean["s2"] - 2 * square),
        "ClusterTendency": spread,
        "Contrast": k2,
        "Correlation": np.divide(covariance, variance, np.ones_like(s), where=variance > 0),
        "DifferenceAverage": mean["k"],
        "DifferenceEntropy": of_difference,
        "DifferenceVariance": k2 - np.square(mean["k"]),
        "Id": mean["Id"],
        "Idm": mean["Idm"],
        "Idmn": mean["Idmn"],
        "Idn": mean["Idn"],
        "Imc1": np.divide(-information, of_level, np.zeros_like(s), where=of_level > 0),
        "Imc2": np.sqrt(1 - np.exp(-2 * np.maximum(information, 0))),
        "InverseVariance": mean["InverseVariance"],
        "JointAverage": average,
        "JointEnergy": _squares(off) / (2 * total**2) + _squares(on) / total**2,
        "JointEntropy": joint,
        "MaximumProbability": np.maximum(off.max(axis=0) / 2, on.max(axis=0)) / total,
        "SumAverage": 2 * average,
        "SumEntropy": of_sum,
        "SumSquares": variance,
    }


def _entropy(counts: NDArray[np.generic], total: int) -> Float64s:
    """Entropy in bits over the rows: the sum of -p log2 p, where p is a count over the total."""
    p = np.arange(total + 1) / total
    terms = (-p * np.log2(p, np.zeros_like(p), where=p > 0)).astype(np.float32)
    contributions = np.take(terms, counts.astype(np.uint8), mode="clip")
    return np.asarray(contributions.sum(axis=0, dtype=np.float64))


def _squares(counts: Counts) -> Float64s:
    values = counts.astype(np.float32)
    return np.asarray(np.einsum("cw,cw->w", values, values), np.float64)
