"""The phantom looks like a CT, and its slices do not depend on how densely they lie."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from pmtool.errors import UsageError
from pmtool.images.hounsfield import CT_RANGE
from pmtool.phantom.chest import PADDING, chest_phantom


@pytest.fixture(scope="module")
def phantom() -> SimpleITK.Image:
    return chest_phantom(size=192, slices=5, spacing=(1.8, 1.8, 2.5), seed=3)


@pytest.fixture(scope="module")
def voxels(phantom: SimpleITK.Image) -> NDArray[np.int16]:
    return np.asarray(SimpleITK.GetArrayFromImage(phantom))


def radius(size: int) -> NDArray[np.float64]:
    """Distance to the centre, 1 at the edge of the field of view."""
    place = (np.arange(size) + 0.5) / size * 2 - 1
    return np.asarray(np.hypot(place[:, None], place))


def test_geometry(phantom: SimpleITK.Image) -> None:
    assert phantom.GetPixelID() == SimpleITK.sitkInt16
    assert phantom.GetSize() == (192, 192, 5)
    assert phantom.GetSpacing() == (1.8, 1.8, 2.5)
    centre = phantom.TransformContinuousIndexToPhysicalPoint((95.5, 95.5, 0.0))
    np.testing.assert_allclose(centre, 0, atol=1e-9)


def test_a_thin_stack_contains_the_thick_one(voxels: NDArray[np.int16]) -> None:
    thin = chest_phantom(size=192, slices=9, spacing=(1.8, 1.8, 1.25), seed=3)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(thin)[::2], voxels)


def test_padding_is_outside_the_field_of_view_and_nowhere_else(voxels: NDArray[np.int16]) -> None:
    outside = radius(192) > 1
    assert (voxels[:, outside] == PADDING).all()
    assert voxels[:, ~outside].min() >= CT_RANGE[0]


def test_tissues(voxels: NDArray[np.int16]) -> None:
    inside = voxels[:, radius(192) <= 1]
    share = {
        "air": np.mean(inside < -950),
        "lung": np.mean((inside > -950) & (inside < -750)),
        "fat": np.mean((inside > -150) & (inside < -50)),
        "muscle": np.mean((inside > 0) & (inside < 100)),
        "bone": np.mean(inside > 400),
    }
    assert min(share.values()) > 0.005, share
    assert share["lung"] > 0.15


def test_noise_is_that_of_a_reconstruction(voxels: NDArray[np.int16]) -> None:
    """Realistic in strength in the heart, correlated in plane, not from slice to slice."""
    heart = voxels[:, 72:90, 98:116].astype(float)
    differences = (heart - heart.mean(axis=(1, 2), keepdims=True)).reshape(heart.shape)
    assert 20 < differences.std() < 40

    def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    assert correlation(differences[..., 1:], differences[..., :-1]) > 0.1
    assert abs(correlation(differences[1:], differences[:-1])) < 0.1


def test_slices_differ_and_the_anatomy_moves(voxels: NDArray[np.int16]) -> None:
    change = np.abs(np.diff(voxels.astype(int), axis=0)) > 300  # far beyond the noise
    assert (change.sum(axis=(1, 2)) > 50).all()


def test_seed() -> None:
    first, again, other = (
        SimpleITK.GetArrayFromImage(chest_phantom(size=32, slices=2, seed=seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("size", "slices", "spacing", "seed"),
    [
        (15, 2, (1.0, 1.0, 1.0), 0),
        (32, 0, (1.0, 1.0, 1.0), 0),
        (32, 2, (1.0, 1.0, 0.0), 0),
        (32, 2, (1.0, float("nan"), 1.0), 0),
        (32, 2, (1.0, 1.0, 1.0), -1),
    ],
)
def test_refusals(size: int, slices: int, spacing: tuple[float, float, float], seed: int) -> None:
    with pytest.raises(UsageError, match="phantom"):
        chest_phantom(size, slices, spacing, seed)
