"""The window graph: everything that depends on the two acquired slices alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pmtool.graphs.outer import outer_components, outer_planes
from pmtool.interface.layout import Layout
from pmtool.models.hyperparameters import LEVELS
from pmtool.network import PixelMiner
from pmtool.network.encoder import Midpoint


class WindowGraph(nn.Module):
    """Shares of all blocks and the known part of the mixture.

    Input: ``above`` and ``below`` of ``N`` windows, ``(N, 1, H + 2 margin, W + 2 margin)`` in
    [-1, 1], with the margin of `Hyperparameters`, and ``thickness`` ``(N, 1, 1, 1)``, see
    `Encoder.forward`. Outputs, channels last:
    ``shares0 .. shares2`` ``(N, H / 2^l, W / 2^l, S)``, the vertical stack's shares before the
    horizontal one's; ``mixture`` ``(N, H, W, M)``, see `Layout.mixture`.
    """

    inputs = ("above", "below", "thickness")
    outputs = (*(f"shares{level}" for level in range(LEVELS)), "mixture")

    def __init__(self, network: PixelMiner) -> None:
        super().__init__()
        self.network = network
        self.layout = Layout(network.hyperparameters)
        if network.hyperparameters.encoder:
            for level in range(LEVELS):
                self.register_buffer(f"matrix{level}", self._matrix(level))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        above, below, relative_thickness = tensors
        hyperparameters = self.layout.hyperparameters
        midpoint = self.network.midpoint(above, below, relative_thickness, hyperparameters.margin)
        if hyperparameters.encoder:
            planes, outer = self._planes(midpoint), []
        else:
            outer_shares, features = outer_planes(self.network, above, below)
            planes = [channels_last(plane) for plane in outer_shares]
            outer = outer_components(self.network, features, midpoint)
        known = torch.cat((*outer, midpoint.mean, midpoint.log_scale), dim=1)
        return (*planes, channels_last(known))

    def _planes(self, midpoint: Midpoint) -> list[Tensor]:
        """Shares from the encoder's features, channels last.

        They include the biases and, at full resolution, what both stacks start with beside the
        pixels. A product of all these at once writes every plane only once.
        """
        planes = []
        entries = self.network.entry(torch.zeros_like(midpoint.mean))
        for level, features in enumerate(midpoint.features):
            ones = torch.ones_like(features[:, :1])
            parts = (features, *(() if level else entries), ones)
            x = channels_last(torch.cat(parts, dim=1))
            planes.append(x @ self.get_buffer(f"matrix{level}"))
        return planes

    def _matrix(self, level: int) -> Tensor:
        """Matrix of a level's product, with a row for each input."""
        layer, shares = self.network.shares[level], self.layout.shares(level)
        rows = [layer.weight.detach()[:, :, 0, 0].T]
        if not level:
            for first in (0, sum(shares)):
                entry = torch.eye(shares[0])
                rows.append(F.pad(entry, (first, 2 * sum(shares) - shares[0] - first)))
        assert layer.bias is not None
        return torch.cat((*rows, layer.bias.detach()[None]))


def channels_last(x: Tensor) -> Tensor:
    """Reorder features: ``(N, C, H, W) -> (N, H, W, C)``."""
    return x.permute(0, 2, 3, 1)
