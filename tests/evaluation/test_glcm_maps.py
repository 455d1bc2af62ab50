"""Maps of GLCM features against a slow direct computation and against pyradiomics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.evaluation.glcm_maps import (
    DIRECTIONS,
    FEATURES,
    LEVELS,
    WINDOW,
    feature_maps,
    grey_levels,
    map_errors,
)

Levels = NDArray[np.uint8]


@pytest.fixture
def levels() -> Levels:
    """Noise of all levels, beside two levels alone, beside a flat piece."""
    rng = np.random.default_rng(3)
    values = rng.integers(0, LEVELS, (21, 24)).astype(np.uint8)
    values[:9, :9] = np.minimum(values[:9, :9], 1) + 3
    values[10:, :8] = 2
    return values


def test_grey_levels_are_of_equal_width() -> None:
    values = np.array([-2000, -1000, -826, -825, 224, 225, 399, 400, 3000], np.int16)
    assert grey_levels(values).tolist() == [0, 0, 0, 1, 6, 7, 7, 7, 7]


def test_equal_to_a_direct_computation(levels: Levels) -> None:
    maps = feature_maps(levels)
    assert maps.shape == (23, 17, 20)
    for top, left in np.ndindex(maps.shape[1:]):
        window = levels[top : top + WINDOW, left : left + WINDOW]
        found = dict(zip(FEATURES, maps[:, top, left], strict=True))
        assert found == pytest.approx(directly(window), rel=1e-5, abs=2e-4)


def test_equal_to_pyradiomics(levels: Levels) -> None:
    glcm = pytest.importorskip("radiomics.glcm")
    mask = np.zeros_like(levels)
    mask[2:-2, 2:-2] = 1
    image, region = (sitk.GetImageFromArray(x[None]) for x in (levels.astype(np.int16), mask))
    settings = {"binWidth": 1, "kernelRadius": 2, "maskedKernel": False, "force2D": True}
    extractor = glcm.RadiomicsGLCM(image, region, voxelBased=True, **settings)
    extractor.enableAllFeatures()
    expected = extractor.execute()
    for name, values in zip(FEATURES, feature_maps(levels), strict=True):
        theirs = sitk.GetArrayFromImage(expected[name])[0, 2:-2, 2:-2]
        np.testing.assert_allclose(values, theirs, rtol=1e-5, atol=2e-4, err_msg=name)


def test_bands_of_rows_do_not_show(levels: Levels) -> None:
    tall = np.concatenate([levels] * 4)
    cut = feature_maps(tall[30 : 40 + WINDOW - 1])
    np.testing.assert_allclose(feature_maps(tall)[:, 30:40], cut, rtol=1e-5, atol=1e-5)


def test_errors(levels: Levels) -> None:
    maps = feature_maps(levels)
    assert set(map_errors(maps, maps).values()) == {0.0}
    assert map_errors(maps + 2, maps) == pytest.approx(dict.fromkeys(FEATURES, 4.0), rel=1e-4)


def directly(window: Levels) -> dict[str, float]:
    """Features of one window, by their formulas, cell by cell of every direction's matrix."""
    found = [of_matrix(matrix(window, down, right)) for down, right in DIRECTIONS]
    return {name: float(np.mean([features[name] for features in found])) for name in FEATURES}


def matrix(window: Levels, down: int, right: int) -> NDArray[np.float64]:
    p = np.zeros((LEVELS, LEVELS))
    for row, column in np.ndindex(window.shape):
        r, c = row + down, column + right
        if r < WINDOW and 0 <= c < WINDOW:
            p[window[row, column], window[r, c]] += 1
            p[window[r, c], window[row, column]] += 1
    return np.asarray(p / p.sum())


def of_matrix(p: NDArray[np.float64]) -> dict[str, float]:
    cells = [(i + 1, j + 1, float(p[i, j])) for i, j in np.ndindex(p.shape) if p[i, j] > 0]
    px = [float(x) for x in p.sum(axis=0)]
    mean = sum(i * x for i, _, x in cells)
    variance = sum((i - mean) ** 2 * x for i, _, x in cells)
    minus = [float(sum(x for i, j, x in cells if abs(i - j) == k)) for k in range(LEVELS)]
    plus = [float(sum(x for i, j, x in cells if i + j == s)) for s in range(2 * LEVELS + 1)]
    average = sum(k * x for k, x in enumerate(minus))
    hxy, hx = entropy([x for _, _, x in cells]), entropy(px)
    shared = sum(x * math.log2(x / (px[i - 1] * px[j - 1])) for i, j, x in cells)
    return {
        "Autocorrelation": sum(i * j * x for i, j, x in cells),
        "ClusterProminence": sum((i + j - 2 * mean) ** 4 * x for i, j, x in cells),
        "ClusterShade": sum((i + j - 2 * mean) ** 3 * x for i, j, x in cells),
        "ClusterTendency": sum((i + j - 2 * mean) ** 2 * x for i, j, x in cells),
        "Contrast": sum((i - j) ** 2 * x for i, j, x in cells),
        "Correlation": sum((i - mean) * (j - mean) * x for i, j, x in cells) / variance
        if variance > 1e-12
        else 1.0,
        "DifferenceAverage": average,
        "DifferenceEntropy": entropy(minus),
        "DifferenceVariance": sum((k - average) ** 2 * x for k, x in enumerate(minus)),
        "Id": sum(x / (1 + k) for k, x in enumerate(minus)),
        "Idm": sum(x / (1 + k**2) for k, x in enumerate(minus)),
        "Idmn": sum(x / (1 + (k / LEVELS) ** 2) for k, x in enumerate(minus)),
        "Idn": sum(x / (1 + k / LEVELS) for k, x in enumerate(minus)),
        "Imc1": -shared / hx if hx > 1e-12 else 0.0,
        "Imc2": math.sqrt(1 - math.exp(-2 * max(shared, 0.0))),
        "InverseVariance": sum(x / k**2 for k, x in enumerate(minus) if k),
        "JointAverage": mean,
        "JointEnergy": sum(x**2 for _, _, x in cells),
        "JointEntropy": hxy,
        "MaximumProbability": max(x for _, _, x in cells),
        "SumAverage": sum(s * x for s, x in enumerate(plus)),
        "SumEntropy": entropy(plus),
        "SumSquares": variance,
    }


def entropy(p: list[float]) -> float:
    return -sum(x * math.log2(x) for x in p if x > 0)
