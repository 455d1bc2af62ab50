"""The objective of training: bits per pixel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pmtool.network import Mixture, PixelMiner, bits_per_pixel, standard_deviation
from pmtool.network.encoder import Midpoint
from pmtool.training.crops import Triplets

ERROR_UNIT_HU = 50.0
"""Absolute error in HU that counts as one bit."""


class Losses(NamedTuple):
    """Means over the pixels of a batch, as scalars.

    Attributes
    ----------
    total
        Value to minimise.
    bits
        Bits per pixel of the network's mixture or, while the encoder is trained by itself, of the
        midpoint's logistic.
    midpoint_bits
        Bits per pixel of the midpoint's logistic; 0 without an encoder.
    midpoint_mae
        Mean absolute error of the midpoint in HU; 0 without an encoder.
    """

    total: Tensor
    bits: Tensor
    midpoint_bits: Tensor
    midpoint_mae: Tensor


class Objective(nn.Module):
    """The losses of a network, or of its encoder: the midpoint's bits and absolute error.

    Bits alone would give little weight to errors at edges, where the scale is large. If both are
    trained jointly, the total is the sum of both losses, so that the midpoint
    stays a midpoint.

    Parameters
    ----------
    network
        The network.
    encoder_alone
        Whether to compute the losses of the encoder alone.
    joint
        Whether to add the losses of the encoder to those of the network.
    context_noise
        See `OptimiserSettings`; used only in training.
    """

    def __init__(
        self,
        network: PixelMiner,
        *,
        encoder_alone: bool,
        joint: bool = False,
        context_noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.encoder_alone, self.joint = network, encoder_alone, joint
        self.context_noise = context_noise

    def forward(self, triplets: Triplets) -> Losses:
        """Compute the losses of triplets."""
        above, target, below = triplets.slices.split(1, dim=1)
        midpoint = self.network.midpoint(above, below, triplets.relative_thickness)
        midpoint_bits, error = self._of_midpoint(midpoint, target)
        of_midpoint = midpoint_bits + error / ERROR_UNIT_HU
        if self.encoder_alone:
            bits, total = midpoint_bits, of_midpoint
        else:
            context = self._context(midpoint, above, target, below)
            mixture = self.network.mixture(midpoint, above, context, below)
            bits = bits_per_pixel(mixture, target, self.network.hyperparameters.bits)
            total = bits + of_midpoint if self.joint else bits
        return Losses(total, *(x.detach() for x in (bits, midpoint_bits, error)))

    def _context(self, midpoint: Midpoint, above: Tensor, target: Tensor, below: Tensor) -> Tensor:
        """Pixels that the network sees as earlier ones: the target, with noise of varying strength.

        Noise is added only in training, and its strength is drawn for every crop.
        """
        if not self.training or not self.context_noise:
            return target
        with torch.no_grad():
            deviation = standard_deviation(self.network.mixture(midpoint, above, target, below))
        strength = self.context_noise * torch.rand_like(target[:, :1, :1, :1])
        return target + strength * deviation * torch.randn_like(target)

    def _of_midpoint(self, midpoint: Midpoint, target: Tensor) -> tuple[Tensor, Tensor]:
        """Bits per pixel and mean absolute error, in HU, of the midpoint; 0 without an encoder."""
        hyperparameters = self.network.hyperparameters
        if not hyperparameters.encoder:
            zero = target.new_zeros(())
            return zero, zero
        mean, log_scale = midpoint.mean.float(), midpoint.log_scale.float()
        logistic = Mixture(torch.zeros_like(mean), mean, log_scale)
        low, high = hyperparameters.hu_window
        error = (mean - target).abs().mean() * ((high - low) / 2)
        return bits_per_pixel(logistic, target, hyperparameters.bits), error
