"""HU, grey levels and pixels are three ways to write the same."""

from __future__ import annotations

import numpy as np
import pytest

from pmtool.models.hyperparameters import Hyperparameters
from pmtool.pixels.levels import from_hounsfield, to_hounsfield, to_levels, to_pixels

MODEL = Hyperparameters(channels=1)


@pytest.mark.parametrize("bits", [1, 8, 12, 16])
def test_levels_and_pixels_are_inverse(bits: int) -> None:
    levels = np.arange(2**bits)
    pixels = to_pixels(levels, bits)
    assert pixels.dtype == np.float32
    assert (pixels[0], pixels[-1]) == (-1, 1)
    np.testing.assert_array_equal(to_levels(pixels, bits), levels)


def test_hounsfield_survives_twelve_bits() -> None:
    values = np.arange(-1024, 3072, dtype=np.int16)
    pixels = from_hounsfield(values, MODEL)
    np.testing.assert_array_equal(pixels, to_pixels(np.arange(4096), 12))
    np.testing.assert_array_equal(to_hounsfield(pixels, MODEL), values)


def test_hounsfield_is_clipped_to_the_window() -> None:
    values = np.array([-32768, -3024, -1025, 3072, 32767], np.int16)
    np.testing.assert_array_equal(from_hounsfield(values, MODEL), [-1, -1, -1, 1, 1])


def test_fewer_bits_round_to_the_nearest_level() -> None:
    model = Hyperparameters(channels=1, bits=8, hu_window=(-1000, 530))
    values = np.array([-1000, -998, -997, -996, 530], np.int16)  # six HU a level
    found = to_hounsfield(from_hounsfield(values, model), model)
    np.testing.assert_array_equal(found, [-1000, -1000, -1000, -994, 530])
