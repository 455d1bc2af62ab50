"""Statistics of slices."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.geometry.grid import make_grid
from pmtool.images.volume import Volume
from pmtool.resampling.statistics import statistics


@pytest.mark.parametrize(("width", "noise"), [(60, 7.0), (2, None)])
def test_statistics(width: int, noise: float | None) -> None:
    """Of white noise; between two columns there is nothing to estimate it from."""
    values = np.random.default_rng(0).normal(40, 7, (3, 80, width)).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    found = statistics(Volume(image, 2, "ct"), make_grid(3, 1, 1), image)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    acquired = found["by_kind"]["acquired"]
    assert acquired["mean"] == pytest.approx(values.mean(), abs=1e-3)
    assert acquired["noise"] == (None if noise is None else pytest.approx(noise, rel=0.05))
