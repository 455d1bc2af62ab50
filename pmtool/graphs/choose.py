"""Choosing a pixel's grey level from its mixture, as part of the pixel graph.

`pmtool.pixels.mixture` is the specification; here a bisection tests several thresholds at once.
Sums over components are written as matrix products: an engine may order the terms of a plain sum
by where a lane lies in memory, which would make the choice depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SEARCH_BITS = 4
"""Bits of a level that one step of the bisection decides, with 15 thresholds."""


class Components(NamedTuple):
    """Mixtures of ``M`` pixels, ``(M, components)`` each; the weights sum to one."""

    weights: Tensor
    means: Tensor
    inverse_scales: Tensor


def upper_edges(bits: int) -> list[Tensor]:
    """Edges that each step of the bisection tests, ``(1, n, 1)``, relative to level 0."""
    unit, remaining, edges = 2.0 / (2**bits - 1), bits, []
    while remaining:
        search_bits = min(SEARCH_BITS, remaining)
        remaining -= search_bits
        levels = [j << remaining for j in range(1, 1 << search_bits)]
        edges.append(torch.tensor([(level - 0.5) * unit - 1 for level in levels])[None, :, None])
    return edges


def quantile(mixture: Components, tails: Tensor, edges: Sequence[Tensor]) -> Tensor:
    """The smallest level whose cumulative probability reaches a uniform number: ``(M, 1)``.

    Parameters
    ----------
    mixture
        Mixtures of the pixels.
    tails
        The uniform numbers ``(M, 1)`` as tails, see `pmtool.pixels.mixture.nearer_tail`, so that
        float32 is as exact near 1 as near 0.
    edges
        `upper_edges` of the grey levels' bits.
    """
    width = math.prod(1 + edge.shape[1] for edge in edges)
    unit = 2.0 / (width - 1)
    weights, side = mixture.weights.unsqueeze(2), torch.sign(tails)
    inverse_scales = (mixture.inverse_scales * side).unsqueeze(1)
    level = torch.zeros_like(tails)
    for edge in edges:
        width //= 1 + edge.shape[1]
        centred = (edge - (mixture.means - level * unit).unsqueeze(1)) * inverse_scales
        probability = (torch.sigmoid(centred) @ weights).squeeze(2)
        below = (probability * side < tails).to(tails.dtype)
        level = level + below.sum(dim=1, keepdim=True) * width
    return level


def mean(mixture: Components, bits: int) -> Tensor:
    """The level nearest to the mean of the mixture clipped to [-1, 1]: ``(M, 1)``."""
    upper = (1 - mixture.means) * mixture.inverse_scales
    lower = (-1 - mixture.means) * mixture.inverse_scales
    below = (F.softplus(upper) - F.softplus(lower)) / mixture.inverse_scales
    expectation = 1 - (mixture.weights.unsqueeze(1) @ below.unsqueeze(2)).squeeze(2)
    return torch.round((expectation + 1) * ((2**bits - 1) / 2))
