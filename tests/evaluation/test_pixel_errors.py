import math

import numpy as np
import pytest

from pmtool.evaluation.pixel_errors import (
    mean_absolute_error,
    peak_signal_to_noise,
    structural_similarity,
)


@pytest.fixture
def reference() -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    return np.random.default_rng(0).integers(-600, 300, (24, 30)).astype(np.int16)


def test_equal_slices(reference: np.ndarray[tuple[int, int], np.dtype[np.int16]]) -> None:
    assert mean_absolute_error(reference, reference) == 0
    assert peak_signal_to_noise(reference, reference) == math.inf
    assert structural_similarity(reference, reference) == pytest.approx(1)
    assert math.isnan(structural_similarity(reference[:10], reference[:10]))


def test_a_constant_error(reference: np.ndarray[tuple[int, int], np.dtype[np.int16]]) -> None:
    result = (reference + 14).astype(np.int16)
    assert mean_absolute_error(result, reference) == 14
    assert peak_signal_to_noise(result, reference) == pytest.approx(40)  # 14 of a range of 1400
    assert 0.9 < structural_similarity(result, reference) < 1


def test_air_and_what_leaves_the_window_do_not_count() -> None:
    reference = np.array([[-3000, -1000, -500, 400]], np.int16)
    result = np.array([[-1000, -950, -510, 3000]], np.int16)
    assert mean_absolute_error(result, reference) == 5
    assert math.isnan(mean_absolute_error(result, np.full_like(reference, -2000)))
