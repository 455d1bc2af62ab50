"""Likelihood of the discretised logistic mixture (PixelCNN++, Salimans et al. 2017, section 2.1)."""

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
        Tensors of shape ``(N, 3 K, H, W)``.
    target
        Pixels in [-1, 1] on the grid of ``2**bits`` levels, ``(N, 1, H, W)``.
    bits
        Of the grey levels; the first and the last bin take the tails.

    Returns
    -------
    Tensor
        ``(N, H, W)``. The logistic density times the bin's width stands in where the difference
        of the two cumulative probabilities is lost in float32.
    """
    half_bin = 1.0 / (2**bits - 1)
    inverse_scale = torch.exp(-mixture.log_scales)
    centred = (target - mixture.means) * inverse_scale
    upper, lower = centred + half_bin * inverse_scale, centred - half_bin * inverse_scale
    probability = torch.sigmoid(upper) - torch.sigmoid(lower)
    log_density = centred - mixture.log_scales - 2 * F.softplus(centred) + math.log(2 * half_bin)
    inside = torch.where(
        probability > 1e-5, torch.log(probability.clamp(min=1e-12)), log_density
    )
    component = torch.where(target > 1 - half_bin, -F.softplus(lower), inside)
    component = torch.where(target < -1 + half_bin, -F.softplus(-upper), component)
    return torch.logsumexp(component + F.log_softmax(mixture.logits, dim=1), dim=1)


def bits_per_pixel(mixture: Mixture, target: Tensor, bits: int) -> Tensor:
    """Mean negative log2-likelihood of the pixels: a scalar."""
    return -log_probability(mixture, target, bits).mean() / math.log(2)
