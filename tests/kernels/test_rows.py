"""What surrounds the pixel loop: the kernels on the CPU against the references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pmtool.interface.host import HostMemory
from pmtool.kernels import launch
from pmtool.pixels.uniforms import Places

HOST = HostMemory()


@pytest.mark.parametrize("seed", [0, 42, 2**64 - 1])
def test_tails_are_equal_to_the_last_bit(launcher: Any, seed: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**31, (4, 5)).astype(np.uint64)
    values[:, 0], values[:, 1] = 0, (7, 3, 2**32 - 20, 2**32 - 20)
    places = Places(*values)
    found, expected = (np.full((9, 13, 5), np.nan, np.float32) for _ in range(2))
    launch.tails(launcher, found, seed, launcher.keep(launch.origins(places)))
    HOST.tails(expected, seed, places)
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.abs(found).min() < np.abs(found).max() <= 0.5


CORNERS = np.array([[0, 0, 2], [4, 3, 0], [1, 2, 1], [4, 0, 2]])
"""Of windows of 5 x 6 pixels in five slices of 8 x 9."""


def test_windows_of_slices(launcher: Any) -> None:
    rng = np.random.default_rng(3)
    slices = rng.normal(0, 1, (5, 8, 9)).astype(np.float32)
    corners = launcher.keep(CORNERS.astype(np.uint32)).reshape(CORNERS.shape)
    found, expected = (np.zeros((3, 1, 5, 6), np.float32) for _ in range(2))
    launch.load_windows(launcher, slices, corners[1:], found)
    HOST.load_windows(slices, CORNERS[1:], expected)
    np.testing.assert_array_equal(found, expected)
    for lanes in (4, 7):
        row, given = (np.zeros((6, lanes), np.float32) for _ in range(2))
        launch.load_pixels(launcher, slices, corners, 3, row)
        HOST.load_pixels(slices, CORNERS, 3, given)
        np.testing.assert_array_equal(row, given)
        pixels = rng.normal(0, 1, (4, lanes)).astype(np.float32)
        changed, wanted = slices.copy(), slices.copy()
        launch.store_pixels(launcher, changed, corners, 4, 2, pixels)
        HOST.store_pixels(wanted, CORNERS, 4, 2, pixels)
        np.testing.assert_array_equal(changed, wanted)
        assert np.count_nonzero(changed != slices) == 16


@pytest.mark.parametrize("channels", [1, 6, 62, 160])
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
def test_load_row(launcher: Any, channels: int, shift: int) -> None:
    """Of planes that begin at any float, in words as wide as that allows."""
    shape = 3, 4, 7, channels
    memory = np.random.default_rng(1).normal(0, 1, np.prod(shape) + shift).astype(np.float32)
    plane = memory[shift:].reshape(shape)
    found, expected = np.zeros((7, 3, channels), np.float32), np.zeros((7, 3, channels), np.float32)
    for row in (0, 3):
        launch.load_row(launcher, plane, row, found)
        HOST.load_row(plane, row, expected)
        np.testing.assert_array_equal(found, expected)


def test_give(launcher: Any) -> None:
    """To the rounding of the exponential, which libraries round differently."""
    rng = np.random.default_rng(2)
    pixels = rng.uniform(-1, 1, (11, 5)).astype(np.float32)
    mixture = rng.normal(0, 1, (11, 5, 14)).astype(np.float32)
    mixture[..., -1] -= 4
    found, expected = np.zeros((11, 5), np.float32), np.zeros((11, 5), np.float32)
    launch.standardise(launcher, pixels, mixture, found)
    HOST.standardise(pixels, mixture, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.abs(found).max() == 16
    assert np.abs(found).min() < 16
