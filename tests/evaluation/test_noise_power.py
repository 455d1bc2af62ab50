"""Noise and its spectrum, in closed form for white noise, steps and ramps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.evaluation.noise_power import (
    BINS,
    SIZE,
    Place,
    homogeneous_place,
    noise,
    noise_power,
)


@pytest.fixture
def slices() -> NDArray[np.int16]:
    """White noise of 10 HU on lung, with a homogeneous piece of soft tissue."""
    values = np.random.default_rng(0).normal(0, 10, (3, 96, 96))
    values[:, :, :40] -= 800
    values[:, :40] -= 800
    return values.astype(np.int16)


def test_place(slices: NDArray[np.int16]) -> None:
    place = homogeneous_place(slices)
    assert place is not None
    assert place.top >= 40
    assert place.left >= 40
    assert homogeneous_place(slices - 900) is None
    assert homogeneous_place(slices[:, :20, :20]) is None
    steps = slices + 100 * (np.indices(slices.shape[1:]).sum(axis=0) // 24 % 2)
    assert homogeneous_place(steps.astype(np.int16)) is None


def test_white_noise(slices: NDArray[np.int16]) -> None:
    place = Place(50, 50)
    ramp = np.add.outer(np.arange(96) * 3, np.arange(96) * -2).astype(np.int16)
    assert noise(slices[0], place) == pytest.approx(10, rel=0.05)
    assert noise(slices[0] + ramp, place) == pytest.approx(noise(slices[0], place))
    spectra = np.array([noise_power(plane, place) for plane in slices])
    assert np.mean(spectra[:, 2:]) == pytest.approx(100, rel=0.1)


def test_spectrum_of_a_wave() -> None:
    wave = 50 * np.cos(2 * np.pi * 8 / SIZE * np.arange(SIZE))
    values = np.tile(wave, (SIZE, 1)).round().astype(np.int16)
    spectrum = noise_power(values, Place(0, 0))
    assert len(spectrum) == BINS
    assert int(np.argmax(spectrum)) == BINS // 2  # a quarter of a cycle a pixel


def test_integral_is_the_variance() -> None:
    values = np.random.default_rng(2).normal(0, 20, (SIZE, SIZE)).astype(np.int16)
    place = Place(0, 0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    counts, _ = np.histogram(frequency, np.linspace(0, 0.5, BINS + 1))
    within = np.dot(counts, noise_power(values, place)) / SIZE**2
    assert within == pytest.approx(noise(values, place) ** 2 * counts.sum() / SIZE**2, rel=0.1)
