"""Choosing a pixel's grey level from its mixture, as part of the pixel graph.

`pmtool.mixture` is the specification; here a bisection asks for several thresholds at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SEARCH_BITS = 4


class Components(NamedTuple):
    """Mixtures of ``M`` pixels, ``(M, 3 K)`` each; the weights sum to one."""

    weights: Tensor
    means: Tensor
    inverse_scales: Tensor


def quantile(mixture: Components, uniforms: Tensor, bits: int) -> Tensor:
    """The smallest level whose cumulative probability reaches ``uniforms`` ``(M, 1)``: ``(M, 1)``."""
    unit = 2.0 / (2**bits - 1)
    weights = mixture.weights.unsqueeze(1)
    inverse = mixture.inverse_scales.unsqueeze(1)
    level = torch.zeros_like(uniforms)
    remaining = bits
    while remaining:
        step_bits = min(SEARCH_BITS, remaining)
        remaining -= step_bits
        width = 1 << remaining
        upper_edges = [(width * j - 0.5) * unit - 1 for j in range(1, 1 << step_bits)]
        edges = torch.tensor(upper_edges, dtype=uniforms.dtype).reshape(1, -1, 1)
        centred = (edges - (mixture.means - level * unit).unsqueeze(1)) * inverse
        cumulative = (torch.sigmoid(centred) * weights).sum(dim=2)
        below = (cumulative < uniforms).to(uniforms.dtype)
        level = level + below.sum(dim=1, keepdim=True) * width
    return level


def mean(mixture: Components, bits: int) -> Tensor:
    """The level nearest to the mean of the mixture clipped to [-1, 1]: ``(M, 1)``."""
    upper = (1 - mixture.means) * mixture.inverse_scales
    lower = (-1 - mixture.means) * mixture.inverse_scales
    below = (F.softplus(upper) - F.softplus(lower)) / mixture.inverse_scales
    expectation = 1 - (mixture.weights * below).sum(dim=1, keepdim=True)
    return torch.round((expectation + 1) * ((2**bits - 1) / 2))
