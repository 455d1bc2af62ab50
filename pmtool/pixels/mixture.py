"""The discretised logistic mixture of a pixel's grey level, in NumPy: the specification.

After PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517, section 2.1). A pixel has one of
``2**bits`` levels, evenly spaced on [-1, 1]; the probability of a level is that of the
continuous mixture in the bin around it; the first and last bins include the tails.

All functions work in the floating type of the mixture, float32 in practice, and broadcast the
mixture's leading axes against the other arguments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmtool.choices import Mode
from pmtool.pixels.levels import Levels, to_levels

Real = NDArray[np.floating[Any]]


class Mixture(NamedTuple):
    """A logistic mixture for every pixel; each array is ``(..., components)``, components last.

    ``logits`` are the unnormalised logarithms of the weights; ``means`` and ``log_scales`` are in
    the units of a pixel, [-1, 1].
    """

    logits: Real
    means: Real
    log_scales: Real


def log_probability(mixture: Mixture, levels: ArrayLike, bits: int) -> Real:
    """Natural logarithm of the probability of a level for each pixel.

    With edges ``a < b`` in units of the scale, the bin holds ``F(b) - F(a)``, which equals
    ``F(b) F(-a) (1 - exp(a - b))``: a product without cancellation, safe at any scale.

    Parameters
    ----------
    mixture
        Arrays of shape ``(..., components)``.
    levels
        Integers of shape ``(...)`` in [0, 2**bits).
    bits
        Bits of the grey levels.
    """
    level = np.asarray(levels)[..., None]
    upper, width = _standardise(mixture, level, bits)
    below_upper = np.where(level == 2**bits - 1, 0, -np.logaddexp(0, -upper))
    above_lower = np.where(level == 0, 0, -np.logaddexp(0, upper - width))
    outer = (level == 0) | (level == 2**bits - 1)
    inside = np.log(np.where(outer, 1, -np.expm1(-width)))
    return _log_sum_exp(_log_weights(mixture) + below_upper + above_lower + inside)


def cumulative(mixture: Mixture, levels: ArrayLike, bits: int) -> Real:
    """Probability of a level or any lower one: the mixture's CDF at the level's upper edge.

    Shapes are as in `log_probability`; the result is exactly 1 for the last level.
    """
    level = np.asarray(levels)[..., None]
    upper, _ = _standardise(mixture, level, bits)
    total = np.sum(np.exp(_log_weights(mixture)) * _sigmoid(upper), axis=-1)
    return np.asarray(np.where(level[..., 0] == 2**bits - 1, 1, np.minimum(total, 1)), total.dtype)


def quantile(mixture: Mixture, uniforms: ArrayLike, bits: int) -> Levels:
    """Smallest level whose upper edge reaches ``uniforms``: the inverse of `cumulative`.

    It is found by a bisection of ``bits`` steps.

    Parameters
    ----------
    mixture
        Arrays of shape ``(..., components)``.
    uniforms
        Shape ``(...)``, strictly inside (0, 1).
    bits
        Bits of the grey levels.
    """
    u = np.asarray(uniforms, mixture.logits.dtype)[..., None]
    low = np.zeros(np.broadcast_shapes(mixture.logits.shape, u.shape)[:-1], np.int32)
    for step in (1 << b for b in reversed(range(bits))):
        low += np.where(_reaches(mixture, low + (step - 1), u, bits), 0, step).astype(np.int32)
    return low


def _reaches(mixture: Mixture, levels: Levels, u: Real, bits: int) -> NDArray[np.bool_]:
    """Whether the CDF at the levels' upper edges is at least ``u``, of shape ``(..., 1)``.

    This is the sign of ``sum_k w_k (F_k - u)``, taken in the nearer tail: ``F_k - u`` is
    ``(1 - u) - (1 - F_k)``. The weights need no normalisation, and the sign is right even if
    all ``F_k`` are rounded to 0 or 1; comparing the rounded sum with ``u`` would send about one
    pixel in ten million to the last level.
    """
    upper, _ = _standardise(mixture, levels[..., None], bits)
    side = np.where(u > 0.5, -1, 1).astype(u.dtype)
    weights = np.exp(mixture.logits - mixture.logits.max(axis=-1, keepdims=True))
    excess = np.sum(weights * (_sigmoid(side * upper) - np.minimum(u, 1 - u)), axis=-1)
    return np.asarray(side[..., 0] * excess >= 0)


def nearer_tail(uniforms: ArrayLike) -> Real:
    """Uniform numbers up to 1/2 unchanged, larger ones as ``u - 1``: exact in float32."""
    u = np.asarray(uniforms)
    return np.asarray(np.where(u > 0.5, u - 1, u), u.dtype)


def mean(mixture: Mixture, bits: int) -> Levels:
    """Level nearest to the expectation of the continuous mixture clipped to [-1, 1].

    The expectation is ``1`` less the integral of the CDF over [-1, 1], and the integral of
    ``F(x) = sigmoid((x - m) / s)`` is ``s softplus((x - m) / s)``.
    """
    scales = np.exp(mixture.log_scales)
    at_top = np.logaddexp(0, (1 - mixture.means) / scales)
    at_bottom = np.logaddexp(0, (-1 - mixture.means) / scales)
    weights = np.exp(_log_weights(mixture))
    expectation = 1 - np.sum(weights * scales * (at_top - at_bottom), axis=-1)
    return to_levels(np.clip(expectation, -1, 1), bits)


def choose(mixture: Mixture, uniforms: ArrayLike, bits: int, mode: Mode = "sample") -> Levels:
    """Level of each pixel: drawn with ``uniforms``, or the median or mean."""
    if mode == "mean":
        return mean(mixture, bits)
    return quantile(mixture, uniforms if mode == "sample" else 0.5, bits)


def _standardise(mixture: Mixture, level: NDArray[Any], bits: int) -> tuple[Real, Real]:
    """Upper edges of levels and the width of a bin, in units of each component's scale."""
    half_bin = 1 / (2**bits - 1)
    edge = np.asarray((2 * level + 1) * half_bin - 1, mixture.means.dtype)
    inverse_scale = np.exp(-mixture.log_scales)
    return (edge - mixture.means) * inverse_scale, 2 * half_bin * inverse_scale


def _log_weights(mixture: Mixture) -> Real:
    return mixture.logits - _log_sum_exp(mixture.logits)[..., None]


def _log_sum_exp(x: Real) -> Real:
    top = x.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(x - top).sum(axis=-1)))


def _sigmoid(x: Real) -> Real:
    """``1 / (1 + exp(-x))``, accurate to the last digits in both tails and without overflow."""
    decay = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, decay, 1) / (1 + decay))
