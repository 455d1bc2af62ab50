"""Likelihood of the discretised logistic mixture (see `pmtool.pixels.mixture`), in PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pmtool.network.pixelminer import Mixture


def log_probability(mixture: Mixture, target: Tensor, bits: int) -> Tensor:
    """Natural logarithm of the probability of every pixel's grey level.

    Parameters
    ----------
    mixture
        Tensors of shape ``(N, components, H, W)``.
    target
        Pixels in [-1, 1] on the grid of ``2**bits`` levels, ``(N, 1, H, W)``.
    bits
        Bits of the grey levels; the first and last bins include the tails.

    Returns
    -------
    Tensor
        Log-probabilities ``(N, H, W)``; see `pmtool.pixels.mixture.log_probability` for the
        formula.
    """
    half_bin = 1.0 / (2**bits - 1)
    inverse_scale = torch.exp(-mixture.log_scales)
    centred, half_width = (target - mixture.means) * inverse_scale, half_bin * inverse_scale
    first, last = target < -1 + half_bin, target > 1 - half_bin
    below_upper = F.logsigmoid(centred + half_width).masked_fill(last, 0)
    above_lower = F.logsigmoid(half_width - centred).masked_fill(first, 0)
    inside = torch.log(-torch.expm1(-2 * half_width)).masked_fill(first | last, 0)
    component = below_upper + above_lower + inside
    return torch.logsumexp(component + F.log_softmax(mixture.logits, dim=1), dim=1)


def bits_per_pixel(mixture: Mixture, target: Tensor, bits: int) -> Tensor:
    """Mean negative log2-likelihood of the pixels, a scalar."""
    return -log_probability(mixture, target, bits).mean() / math.log(2)


def standard_deviation(mixture: Mixture) -> Tensor:
    """Standard deviation of each pixel's mixture: ``(N, components, H, W) -> (N, 1, H, W)``."""
    weights = torch.softmax(mixture.logits, dim=1)
    centred = mixture.means - (weights * mixture.means).sum(dim=1, keepdim=True)
    variances = centred.square() + (math.pi * torch.exp(mixture.log_scales)).square() / 3
    return (weights * variances).sum(dim=1, keepdim=True).sqrt()
