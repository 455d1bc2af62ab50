"""What a run is warned of, and statistics of its slices."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.geometry.grid import make_grid
from pmtool.images.volume import Volume
from pmtool.resampling.report import (
    copy_text,
    interpolation_text,
    statistics,
    thickness_text,
)


def volume(thickness: float | None) -> Volume:
    return Volume(sitk.Image([4, 4, 3], sitk.sitkInt16), 2, "ct", known_thickness=thickness)


@pytest.mark.parametrize("thickness", [None, 1.25, 6, 6.05])
def test_thin_slices_and_those_of_unknown_thickness(thickness: float | None) -> None:
    assert thickness_text(volume(thickness), 6.0) is None


def test_thick_slices() -> None:
    text = thickness_text(volume(8), 6.0)
    assert text is not None
    assert "8 mm thick" in text
    assert "up to 6 mm" in text


def test_copies() -> None:
    text = copy_text(make_grid(5, 2.5, 2.5))
    assert text == "slices 2.5 mm apart are there already; the output is a copy of the input's"
    assert copy_text(make_grid(5, 2.5, 1.25)) is None
    assert copy_text(make_grid(5, 2.5, 2.0)) is None


@pytest.mark.parametrize("source_spacing", [2.4942857142857, 2.0000049, 0.9999966])
def test_the_spacings_advised_avoid_interpolation_in_a_long_stack(source_spacing: float) -> None:
    text = interpolation_text(make_grid(900, source_spacing, round(source_spacing / 2, 2)))
    assert text is not None
    advised = re.findall(r"[\d.]+(?= or | mm avoids)", text)
    assert advised
    for spacing in map(float, advised):
        assert interpolation_text(make_grid(900, source_spacing, spacing)) is None


@pytest.mark.parametrize(("width", "noise"), [(60, 7.0), (2, None)])
def test_statistics(width: int, noise: float | None) -> None:
    """Of white noise; between two columns there is nothing to estimate it from."""
    values = np.random.default_rng(0).normal(40, 7, (3, 80, width)).astype(np.float32)
    found = statistics(volume(None), make_grid(3, 1, 1), sitk.GetImageFromArray(values))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    acquired = found["by_kind"]["acquired"]
    assert acquired["mean"] == pytest.approx(values.mean(), abs=1e-3)
    assert acquired["noise"] == (None if noise is None else pytest.approx(noise, rel=0.05))
