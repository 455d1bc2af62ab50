"""What training minimises: bits per pixel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pmtool.network import Mixture, PixelMiner, bits_per_pixel


class Losses(NamedTuple):
    """Means over the pixels of a batch: scalars.

    Attributes
    ----------
    total
        To be minimised.
    bits
        Bits per pixel of the network's mixture.
    midpoint_bits
        Bits per pixel of the midpoint's logistic; 0 without an encoder.
    midpoint_mae
        Mean absolute error of the midpoint, HU; 0 without an encoder.
    """

    total: Tensor
    bits: Tensor
    midpoint_bits: Tensor
    midpoint_mae: Tensor


class Objective(nn.Module):
    """The losses of a network; the encoder is also trained by its midpoint alone."""

    def __init__(self, network: PixelMiner, midpoint_weight: float) -> None:
        super().__init__()
        self.network, self.midpoint_weight = network, midpoint_weight

    def forward(self, triplets: Tensor) -> Losses:
        """Losses of ``(N, 3, H, W)`` pixels in [-1, 1]."""
        above, target, below = triplets.split(1, dim=1)
        hyperparameters = self.network.hyperparameters
        midpoint = self.network.midpoint(above, below)
        mixture = self.network.mixture(midpoint, above, target, below)
        bits = bits_per_pixel(mixture, target, hyperparameters.bits)
        if not hyperparameters.encoder:
            zero = torch.zeros_like(bits)
            return Losses(bits, bits.detach(), zero, zero)
        mean, log_scale = midpoint.mean.float(), midpoint.log_scale.float()
        logistic = Mixture(torch.zeros_like(mean), mean, log_scale)
        midpoint_bits = bits_per_pixel(logistic, target, hyperparameters.bits)
        low, high = hyperparameters.hu_window
        mae = (mean.detach() - target).abs().mean() * ((high - low) / 2)
        total = bits + self.midpoint_weight * midpoint_bits
        return Losses(total, bits.detach(), midpoint_bits.detach(), mae)
