"""Shape-based interpolation of labels: closed forms, and masks whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pmtool.choices import MaskInterpolation
from pmtool.geometry.grid import make_grid
from pmtool.images.volume import Volume
from pmtool.resampling.segmentation import resample_mask
from pmtool.resampling.shapes import labels_between


def disc(radius: float, x: float = 0, spacing: tuple[float, float] = (1, 1)) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[-30:31, -40:41]
    inside: NDArray[np.bool_] = np.hypot(columns * spacing[0] - x, rows * spacing[1]) <= radius
    return inside


def mean_of(mask: NDArray[Any]) -> tuple[float, float]:
    """Radius of a disc of the same area, and the place along the rows, pixels."""
    return float(np.sqrt(mask.sum() / np.pi)), float(np.nonzero(mask)[1].mean() - 40)


@settings(deadline=None)
@given(share=st.floats(0.01, 0.99), first=st.integers(5, 20), second=st.integers(5, 20))
def test_a_disc_that_grows(share: float, first: int, second: int) -> None:
    found = labels_between(disc(first), disc(second), share, (1, 1))
    assert mean_of(found)[0] == pytest.approx((1 - share) * first + share * second, abs=0.7)


@settings(deadline=None)
@given(share=st.floats(0.01, 0.99), shift=st.integers(-9, 9))
def test_a_disc_that_moves(share: float, shift: int) -> None:
    """Discs of radius 20 overlap; between them, along the way, lies one that is hardly smaller."""
    radius, place = mean_of(labels_between(disc(20), disc(20, shift), share, (1, 1)))
    assert place == pytest.approx(share * shift, abs=0.6)
    assert radius == pytest.approx(20, abs=1)


def test_pixels_that_are_not_square() -> None:
    spacing = (0.5, 2.0)
    found = labels_between(disc(6, 0, spacing), disc(12, 0, spacing), 0.5, spacing)
    area = found.sum() * spacing[0] * spacing[1]
    assert np.sqrt(area / np.pi) == pytest.approx(9, abs=0.6)


def test_a_label_ends_halfway() -> None:
    """As a cone: half of its radius is left after a quarter of the way."""
    label, none = disc(16).astype(np.int16) * 7, np.zeros((61, 81), np.int16)
    for one, other, share in ((label, none, 0.25), (none, label, 0.75)):
        found = labels_between(one, other, share, (1, 1))
        assert set(np.unique(found)) == {0, 7}
        assert mean_of(found.astype(bool))[0] == pytest.approx(16 * 2 / 3, abs=1)
    assert labels_between(label, none, 0.6, (1, 1)).max() == 0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**16), share=st.floats(0.01, 0.99))
def test_labels_stay_where_both_slices_have_them(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = (np.kron(rng.integers(0, 4, (3, 3)), np.ones((5, 5), int)) for _ in range(2))
    found = labels_between(one, other, share, (1, 1))
    assert np.array_equal(found[one == other], one[one == other])
    assert found[(one != 0) & (other != 0)].all()
    assert np.isin(found, np.union1d(one, other)).all()
    assert np.array_equal(labels_between(one, one, share, (1, 1)), one)


@settings(deadline=None)
@given(share=st.floats(0.01, 0.99))
def test_no_gap_between_a_label_and_the_next(share: float) -> None:
    """As between two vertebrae, one of which lies above the other."""
    found = labels_between(1 * disc(20), 2 * disc(20), share, (1, 1))
    assert np.array_equal(found != 0, disc(20))
    assert set(np.unique(found)) <= {0, 1, 2}


def errors(mask: NDArray[Any]) -> dict[str, float]:
    """One minus Dice's coefficient at slices that were dropped, by interpolation."""
    thick = Volume(sitk.GetImageFromArray(mask[::2].astype(np.uint8)), 2, "mask")
    grid, truth = make_grid(len(mask[::2]), 2, 1), mask[1::2]
    found: dict[str, float] = {}
    interpolation: MaskInterpolation
    for interpolation in get_args(MaskInterpolation):
        made = sitk.GetArrayFromImage(resample_mask(thick, grid, interpolation))[1::2] > 0
        found[interpolation] = 1 - 2 * (made & truth).sum() / (made.sum() + truth.sum())
    return found


@pytest.mark.parametrize("tilt", [0.0, 1.2])
def test_an_ellipsoid(tilt: float) -> None:
    z, y, x = np.mgrid[-16:17, -50:51, -60:61]
    found = errors(np.hypot(np.hypot(x - tilt * z, y), 2 * z) < 35)
    assert found["shape"] < 0.5 * min(found["nearest"], found["linear"])


def test_a_real_scan(shared: Callable[[str], Path]) -> None:
    """The figures of docs/formats.md."""
    path = str(shared("validation/RICORD-000082.nrrd"))
    scan = sitk.GetArrayFromImage(sitk.ReadImage(path))[60:81]
    figures = {"lung": scan < -500, "tissue": scan > -100, "bone": scan > 250}
    for name, expected in {
        "lung": (0.014, 0.012, 0.008),
        "tissue": (0.049, 0.045, 0.034),
        "bone": (0.222, 0.182, 0.193),
    }.items():
        image = sitk.GetImageFromArray(figures[name].astype(np.uint8))
        opened = sitk.GetArrayFromImage(sitk.BinaryMorphologicalOpening(image, (1, 1, 1)))
        found = errors(opened.astype(bool))
        assert tuple(round(found[x], 3) for x in get_args(MaskInterpolation)) == expected, name
