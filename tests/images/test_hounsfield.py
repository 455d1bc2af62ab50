from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.errors import ContentError
from pmtool.images.hounsfield import (
    check_hounsfield,
    for_network,
    padding,
    restore_padding,
    to_voxels,
)
from pmtool.images.reading import ReadingOptions
from pmtool.images.volume import Volume

WINDOW = (-1024, 3071)


def volume(values: NDArray[Any]) -> Volume:
    return Volume(sitk.GetImageFromArray(values), 2, "scan.nrrd")


def noise(low: int, high: int, dtype: Any = np.int16) -> NDArray[Any]:
    return np.random.default_rng(0).integers(low, high, (4, 20, 20)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_ct_passes(dtype: Any) -> None:
    check_hounsfield(volume(noise(-1024, 2000, dtype)))
    check_hounsfield(volume(noise(-300, 900, dtype)))
    check_hounsfield(volume(noise(-1000, 2000, dtype).clip(-1000, 1500)))  # saturated metal
    extreme = noise(-1024, 2000, dtype)
    extreme[0, 0, :2] = -(2**15), 2**15 - 1  # padding and metal
    check_hounsfield(volume(extreme))


@pytest.mark.parametrize(
    "values",
    [
        noise(0, 256),
        noise(0, 3000, np.uint16),
        noise(-100, 100).astype(np.float32) / 100,
        noise(-1000, 1000).clip(-160, 240),
        np.tile(noise(-1000, 200).clip(-1350, 150), (1, 3, 3)),
    ],
)
def test_other_scales_are_refused_unless_assumed(values: NDArray[Any]) -> None:
    with pytest.raises(ContentError, match="assume-hu"):
        check_hounsfield(volume(values))
    check_hounsfield(volume(values), ReadingOptions(assume_hu=True))


def test_what_no_flag_lifts() -> None:
    broken = noise(-1000, 1000, np.float32)
    broken[2, 3, 4] = np.nan
    for values in (noise(0, 255, np.uint8), broken, np.full((3, 4, 4), np.inf)):
        with pytest.raises(ContentError, match=r"scan\.nrrd"):
            check_hounsfield(volume(values), ReadingOptions(assume_hu=True))


def test_for_network_clips_and_rounds() -> None:
    values = np.array([[-3024.0, 10.6], [1e9, -0.2]])
    assert for_network(values, WINDOW).tolist() == [[-1024, 11], [3071, 0]]
    inside = np.array([[1, 2]], np.int16)
    assert for_network(inside, WINDOW) is inside
    assert for_network(np.array([[-2048]], np.int16), WINDOW).tolist() == [[-1024]]


def test_padding_returns_where_both_have_it() -> None:
    above = np.array([[-2048, -3024, -2048, 50]])
    below = np.array([[-2048, -2000, -900, -2048]])
    made = np.array([[-1024, -1024, -950, 7]])
    restore_padding(made, above, below, -1024)
    assert made.tolist() == [[-2048, -2000, -950, 7]]


def test_padding_of_a_clipped_scan_is_large_and_lowest() -> None:
    values = np.random.default_rng(0).integers(-1024, -1000, (64, 64)).astype(np.int16)
    assert not padding(values, -1024).any()
    values[:9, 3:20] = -2048
    values[30:35, 30:35] = -1024
    values[50, 50] = -2000
    expected = np.zeros(values.shape, bool)
    expected[:9, 3:20] = expected[30:35, 30:35] = expected[50, 50] = True
    np.testing.assert_array_equal(padding(values, -1024), expected)


def test_to_voxels_rounds_to_the_nearest() -> None:
    values = np.array([-1.6, -1.4, 2.6])
    assert to_voxels(values, np.dtype(np.int16)).tolist() == [-2, -1, 3]
    assert to_voxels(values, np.dtype(np.uint16)).tolist() == [0, 0, 3]
    assert to_voxels(values, np.dtype(np.float32)).dtype == np.float32
