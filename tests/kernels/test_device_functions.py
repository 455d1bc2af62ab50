"""The functions of the headers, compiled as C++, against NumPy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.pixels import mixture
from pmtool.pixels import uniforms as noise

BITS = 12
RandomMixture = Callable[..., mixture.Mixture]


def pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**63 + 12345, 2**64 - 1])
def test_philox_is_equal_to_the_last_bit(library: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(seed % 1000)
    for counter in rng.integers(0, 2**32, (200, 4), dtype=np.uint32):
        words = np.empty(4, np.uint32)
        library.philox_words(pointer(counter), ctypes.c_uint64(seed), pointer(words))
        key = seed & noise.WORD, seed >> 32
        expected = noise.philox(tuple(counter.astype(np.uint64)), key)
        assert words.tolist() == [int(word) for word in expected]


def components(source: mixture.Mixture) -> Float32s:
    """Weights, which need not sum to one, means and inverse scales, ``(count, 3, K)``."""
    weights = np.exp(source.logits - source.logits.max(axis=1, keepdims=True))
    parts = (weights, source.means, np.exp(-source.log_scales))
    return np.ascontiguousarray(np.stack(parts, axis=1), np.float32)


def quantiles(
    library: ctypes.CDLL, source: mixture.Mixture, u: Float32s, bits: int
) -> NDArray[np.int32]:
    parts, tails = components(source), np.asarray(mixture.nearer_tail(u), np.float32)
    levels = np.empty(len(u), np.int32)
    count, _, k = parts.shape
    library.quantiles(pointer(parts), pointer(tails), count, k, bits, pointer(levels))
    return levels


@pytest.mark.parametrize("bits", [1, 6, 8, 12, 16])
def test_quantile(library: ctypes.CDLL, bits: int, random_mixture: RandomMixture) -> None:
    """Levels differ by one where float32 sums on either side of a threshold: 1 in 1,000 at most."""
    source = random_mixture(5000)
    u = np.random.default_rng(0).uniform(1e-6, 1 - 1e-6, 5000).astype(np.float32)
    expected = mixture.quantile(source, u, bits)
    difference = np.abs(quantiles(library, source, u, bits) - expected)
    assert difference.max() <= (1 if bits <= BITS else 8)
    if bits <= BITS:
        assert np.mean(difference > 0) < 1e-3


@pytest.mark.parametrize("u", [2**-24, 0.5, 1 - 2**-24])
def test_quantile_of_extreme_uniforms(
    library: ctypes.CDLL, u: float, random_mixture: RandomMixture
) -> None:
    source, uniforms = random_mixture(2000, narrow=True), np.full(2000, u, np.float32)
    expected = mixture.quantile(source, uniforms, BITS)
    difference = np.abs(quantiles(library, source, uniforms, BITS) - expected)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-2


def means(library: ctypes.CDLL, source: mixture.Mixture, bits: int) -> NDArray[np.int32]:
    parts = components(source)
    levels = np.empty(len(parts), np.int32)
    library.means(pointer(parts), len(parts), parts.shape[2], bits, pointer(levels))
    return levels


@pytest.mark.parametrize("bits", [8, 12])
def test_mean(library: ctypes.CDLL, bits: int, random_mixture: RandomMixture) -> None:
    source = random_mixture(5000)
    difference = np.abs(means(library, source, bits) - mixture.mean(source, bits))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-2


@pytest.mark.parametrize(("centre", "level"), [(-1e4, 0), (1e4, 4095), (0.5, 3071)])
def test_extreme_means(library: ctypes.CDLL, centre: float, level: int) -> None:
    one = np.ones((1, 1), np.float32)
    source = mixture.Mixture(one, centre * one, -7 * one)
    assert means(library, source, BITS) == level
    assert quantiles(library, source, np.full(1, 0.5, np.float32), BITS) == level


def test_concat_elu(library: ctypes.CDLL) -> None:
    x = np.concatenate([np.linspace(-20, 20, 401), [0, 1e-7, -1e-7]]).astype(np.float32)
    plus, minus = np.empty_like(x), np.empty_like(x)
    library.concat_elus(pointer(x), len(x), pointer(plus), pointer(minus))
    for found, argument in ((plus, x), (minus, -x)):
        expected = np.where(argument > 0, argument, np.expm1(np.minimum(argument, 0)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
