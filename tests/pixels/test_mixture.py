"""The mixture against brute force over all levels, in double precision, and against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pmtool.choices import Mode
from pmtool.network.likelihood import log_probability as torch_log_probability
from pmtool.network.pixelminer import Mixture as TorchMixture
from pmtool.pixels.levels import to_pixels
from pmtool.pixels.mixture import (
    Mixture,
    choose,
    cumulative,
    log_probability,
    mean,
    quantile,
)

BITS = 12
LEVELS = np.arange(2**BITS)


def plausible(shape: tuple[int, ...], seed: int = 0, widest: float = 0) -> Mixture:
    """What a network could say: components narrow and (up to ``exp(widest)``) wide."""
    random = np.random.default_rng(seed)
    arrays = (
        random.normal(0, 2, shape),
        random.normal(0, 0.6, shape),
        random.uniform(-7, widest, shape),
    )
    return Mixture(*(a.astype(np.float32) for a in arrays))


def double(mixture: Mixture) -> Mixture:
    return Mixture(*(a.astype(np.float64) for a in mixture))


def all_levels(mixture: Mixture) -> Mixture:
    """With an axis for the levels before the components."""
    return Mixture(*(a[..., None, :] for a in mixture))


def components(low: float, high: float) -> st.SearchStrategy[NDArray[np.float64]]:
    return arrays(np.float64, (6,), elements=st.floats(low, high, width=32))


MIXTURES = st.builds(Mixture, components(-50, 50), components(-3, 3), components(-7, 5))


def test_sums_to_one_in_single_precision() -> None:
    total = np.exp(log_probability(all_levels(plausible((50, 30))), LEVELS, BITS)).sum(axis=-1)
    np.testing.assert_allclose(total, 1, atol=2e-5)


@given(MIXTURES)
@settings(deadline=None, max_examples=25)
def test_probabilities_are_differences_of_the_cdf(mixture: Mixture) -> None:
    cdf = cumulative(all_levels(mixture), LEVELS, BITS)
    assert cdf[-1] == 1
    probability = np.exp(log_probability(all_levels(mixture), LEVELS, BITS))
    np.testing.assert_allclose(probability, np.diff(cdf, prepend=0), atol=1e-14)


def test_single_precision_keeps_the_digits_of_tiny_probabilities() -> None:
    mixture = all_levels(plausible((20, 30), seed=1, widest=-4))
    exact = log_probability(double(mixture), LEVELS, BITS)
    single = log_probability(mixture, LEVELS, BITS)
    assert single.dtype == np.float32
    assert exact.min() < -30
    np.testing.assert_allclose(single, exact, rtol=2e-6, atol=5e-4)


@given(MIXTURES, st.floats(2**-24, 1 - 2**-24, width=32))
@settings(deadline=None, max_examples=25)
def test_quantile_is_the_first_level_that_reaches_u(mixture: Mixture, u: float) -> None:
    level = int(quantile(mixture, u, BITS))
    cdf = cumulative(all_levels(mixture), LEVELS, BITS)
    tolerance = 1e-14  # the CDF's own rounding
    assert cdf[level] >= u - tolerance
    assert level == 0 or cdf[level - 1] < u + tolerance


def test_quantile_against_brute_force_in_single_precision() -> None:
    mixture = plausible((300, 30), seed=2)
    u = np.random.default_rng(3).uniform(size=300).astype(np.float32)
    cdf = cumulative(all_levels(mixture), LEVELS, BITS)
    expected = np.argmax(cdf >= u[:, None], axis=-1)
    difference = np.abs(quantile(mixture, u, BITS) - expected)
    assert np.mean(difference > 0) < 0.02
    assert difference.max() <= 1


@pytest.mark.parametrize("u", [2**-24, 1 - 2**-24])
def test_extreme_uniforms_stay_in_the_tail(u: float) -> None:
    """A rounded sum that never reaches u would end at the last level."""
    mixture = plausible((2000, 30), seed=4, widest=-4)
    mixture = mixture._replace(means=mixture.means / 5)
    exact = quantile(double(mixture), u, BITS)
    inside = (exact > 0) & (exact < LEVELS[-1])
    assert inside.mean() > 0.2
    np.testing.assert_allclose(quantile(mixture, u, BITS)[inside], exact[inside], atol=2)


def test_samples_follow_the_distribution() -> None:
    mixture = plausible((30,), seed=5)
    u = (np.arange(20_000) + 0.5) / 20_000
    counts = np.bincount(quantile(mixture, u, BITS), minlength=2**BITS)
    probability = np.exp(log_probability(all_levels(mixture), LEVELS, BITS))
    np.testing.assert_allclose(counts / u.size, probability, atol=1e-4)


@given(MIXTURES)
@settings(deadline=None, max_examples=25)
def test_mean_against_the_expectation_of_the_levels(mixture: Mixture) -> None:
    probability = np.exp(log_probability(all_levels(mixture), LEVELS, BITS))
    # The levels' expectation differs from that of the clipped continuum by half a bin at most.
    assert abs(int(mean(mixture, BITS)) - probability @ LEVELS) <= 1


def test_mean_in_single_precision() -> None:
    mixture = plausible((5000, 30), seed=6)
    assert np.abs(mean(mixture, BITS) - mean(double(mixture), BITS)).max() <= 1


@pytest.mark.parametrize(("centre", "level"), [(-1e4, 0), (1e4, 4095), (0.5, 3071)])
@pytest.mark.parametrize("mode", ["sample", "median", "mean"])
def test_extreme_parameters(centre: float, level: int, mode: Mode) -> None:
    one = np.ones(1, np.float32)
    mixture = Mixture(1e4 * one, centre * one, -7 * one)
    assert choose(mixture, 0.5, BITS, mode) == level
    assert np.isfinite(log_probability(mixture, LEVELS[:, None], BITS)).all()


def test_modes() -> None:
    """Of two narrow logistics, at levels 1000 and 2000 with weights of 1 to 3."""
    logits = np.log([[1, 3]]).astype(np.float32)
    mixture = Mixture(logits, to_pixels(np.array([[1000, 2000]]), 12), np.full((1, 2), -7, "f4"))
    assert [int(choose(mixture, u, BITS)[0]) for u in (0.2, 0.3)] == pytest.approx(
        [1000, 2000], abs=5
    )
    assert int(choose(mixture, 0.2, BITS, "median")[0]) == pytest.approx(2000, abs=3)
    assert int(choose(mixture, 0.2, BITS, "mean")[0]) == pytest.approx(1750, abs=1)


@pytest.mark.parametrize("bits", [8, 12])
def test_agrees_with_the_network_s_likelihood(bits: int) -> None:
    mixture = plausible((200, 30), seed=8)
    levels = np.random.default_rng(9).integers(0, 2**bits, 200)
    levels[:2] = 0, 2**bits - 1
    tensors = (torch.from_numpy(a[:, :, None, None]) for a in mixture)
    target = torch.from_numpy(to_pixels(levels, bits)[:, None, None, None])
    theirs = torch_log_probability(TorchMixture(*tensors), target, bits).numpy()[:, 0, 0]
    np.testing.assert_allclose(log_probability(mixture, levels, bits), theirs, rtol=1e-3, atol=2e-3)
