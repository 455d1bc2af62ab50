"""The PixelMiner network (paper, section 2.2 and figure 1B)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pmtool.interface.layout import Layout
from pmtool.models.hyperparameters import LEVELS, Hyperparameters, encoder_widths
from pmtool.network.encoder import Encoder, Midpoint, cropped, no_midpoint
from pmtool.network.layers import (
    AnyBlock,
    Block,
    GatedLayer,
    Layers,
    TargetBlock,
    Upsample,
    conv,
    depths,
    shift_down,
    shift_right,
)

VERTICAL = (2, 3)
HORIZONTAL = (2, 2)
Shares = Iterator[Tensor | float]


class Mixture(NamedTuple):
    """A discretised logistic mixture for every pixel; tensors are ``(N, components, H, W)``.

    The components are the target's own ``K`` with an encoder, and otherwise those of the depths
    above, target and below, in this order. Means and scales are in units of the network's input,
    [-1, 1].
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor


class Stack(nn.Module):
    """The layers of one of the two stacks, by resolution; `PixelMiner` connects them.

    Attributes
    ----------
    up
        Three lists of *n* gated layers, at full, half and quarter resolution.
    strided
        The blocks that lead from one resolution to the next coarser one.
    down
        Three lists of *n*, *n + 1* and *n + 1* gated layers, from the coarsest to the finest.
    upsample
        The transposed convolutions that lead back to finer resolutions.
    """

    def __init__(
        self, block: type[AnyBlock], c: int, n: int, *, horizontal: bool, dropout: float
    ) -> None:
        super().__init__()
        kernel = HORIZONTAL if horizontal else VERTICAL
        gated_layer = partial(GatedLayer, block, c, kernel, causal_left=horizontal, dropout=dropout)

        def gated(count: int, shortcut: int) -> Layers[GatedLayer]:
            return Layers(gated_layer(shortcut=shortcut) for _ in range(count))

        self.up = Layers(gated(n, c if horizontal else 0) for _ in range(LEVELS))
        self.strided = Layers(
            block(c, c, kernel, stride=2, causal_left=horizontal) for _ in range(LEVELS - 1)
        )
        counts = n, *([n + 1] * (LEVELS - 1))
        self.down = Layers(gated(count, 2 * c if horizontal else c) for count in counts)
        self.upsample = Layers(Upsample(c, kernel) for _ in range(LEVELS - 1))


class PixelMiner(nn.Module):
    """Distribution of every pixel of a slice, given both neighbours and the pixels before it.

    The order of pixels is raster order: row by row, from left to right. With an encoder, only the
    target passes through the stacks, relative to the encoder's midpoint and in units of its scale;
    their mixture is in these terms too, and the encoder's features are added in every block.
    Without an encoder, this is the paper's network.
    """

    def __init__(self, hyperparameters: Hyperparameters, dropout: float = 0.0) -> None:
        super().__init__()
        self.hyperparameters = hyperparameters
        c, n = hyperparameters.channels, hyperparameters.blocks
        block: type[AnyBlock] = TargetBlock if hyperparameters.encoder else Block
        if hyperparameters.encoder:
            self.encoder = Encoder(hyperparameters.encoder)
            layout, widths = Layout(hyperparameters), encoder_widths(hyperparameters.encoder)
            self.shares = Layers(
                nn.Conv2d(width, 2 * sum(layout.shares(level)), 1)
                for level, width in enumerate(widths)
            )
        self.input_vertical = block(2, c, (2, 3), causal_left=False)
        self.input_row = block(2, c, (1, 3), causal_left=False)
        self.input_column = block(2, c, (2, 1), causal_left=True)
        self.vertical = Stack(block, c, n, horizontal=False, dropout=dropout)
        self.horizontal = Stack(block, c, n, horizontal=True, dropout=dropout)
        self.output = conv(c, 3 * hyperparameters.mixtures, (1, 1))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def forward(
        self, above: Tensor, target: Tensor, below: Tensor, relative_thickness: Tensor
    ) -> Mixture:
        """Return the mixtures of all pixels of ``target``; slices are ``(N, 1, H, W)`` in [-1, 1].

        Height and width are multiples of 4. The neighbours may extend beyond the target on all
        sides by the same multiple of 4, which only the encoder sees. Likewise, only the
        encoder uses the thickness of the slices, see `Encoder.forward`.
        """
        margin = (above.shape[-1] - target.shape[-1]) // 2
        midpoint = self.midpoint(above, below, relative_thickness, margin)
        above, below = (cropped(outer, margin) for outer in (above, below))
        return self.mixture(midpoint, above, target, below)

    def midpoint(
        self, above: Tensor, below: Tensor, relative_thickness: Tensor, margin: int = 0
    ) -> Midpoint:
        """Return the midpoint of the target, given both neighbours, without the margin."""
        if not self.hyperparameters.encoder:
            return no_midpoint(cropped(above, margin))
        midpoint: Midpoint = self.encoder(above, below, relative_thickness)
        return midpoint.cropped(margin)

    def mixture(self, midpoint: Midpoint, above: Tensor, target: Tensor, below: Tensor) -> Mixture:
        """Compute `forward` from the midpoint and neighbours without margins."""
        slices = (target,) if self.hyperparameters.encoder else (above, below, target)
        x = torch.cat([midpoint.residual(slice_) for slice_ in slices])
        v, h = self.entry(x)
        return self.components(F.elu(self._stacks(v, h, *self._shares(midpoint))), midpoint)

    def entry(self, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the inputs of both stacks from one channel of all depths.

        A channel of ones distinguishes padding from a residual of 0.
        """
        x = torch.cat((residuals, torch.ones_like(residuals)), dim=1)
        return (
            shift_down(self.input_vertical(x)),
            shift_down(self.input_row(x)) + shift_right(self.input_column(x)),
        )

    def planes(self, midpoint: Midpoint) -> list[Tensor]:
        """Compute what the encoder's features add to the blocks, by level.

        Channels are those of `Layout.shares`, the vertical stack's before the horizontal one's.
        """
        return [layer(x) for layer, x in zip(self.shares, midpoint.features, strict=True)]

    def _shares(self, midpoint: Midpoint) -> tuple[list[Shares], list[Shares]]:
        """Split the planes into both stacks' shares, by level; without an encoder they are 0.

        Both passes take them in turn, in the order of `Layout.shares`.
        """
        if not self.hyperparameters.encoder:
            return [repeat(0.0)] * LEVELS, [repeat(0.0)] * LEVELS
        layout = Layout(self.hyperparameters)
        stacks: tuple[list[Shares], list[Shares]] = [], []
        for level, plane in enumerate(self.planes(midpoint)):
            for shares, half in zip(stacks, plane.chunk(2, dim=1), strict=True):
                shares.append(iter(half.split(layout.shares(level), dim=1)))
        return stacks

    def _stacks(
        self, v: Tensor, h: Tensor, v_shares: list[Shares], h_shares: list[Shares]
    ) -> Tensor:
        v, h = v + next(v_shares[0]), h + next(h_shares[0])
        vs, hs = [v], [h]
        for level in range(LEVELS):
            if level:
                v = self.vertical.strided[level - 1](v) + next(v_shares[level])
                h = self.horizontal.strided[level - 1](h) + next(h_shares[level])
                vs.append(v)
                hs.append(h)
            layers = zip(self.vertical.up[level], self.horizontal.up[level], strict=True)
            for v_layer, h_layer in layers:
                v = v_layer(v, None, v_shares[level])
                h = h_layer(h, v, h_shares[level])
                vs.append(v)
                hs.append(h)
        v, h = vs.pop(), hs.pop()
        for step, level in enumerate(reversed(range(LEVELS))):
            if step:
                v = self.vertical.upsample[step - 1](v)
                h = self.horizontal.upsample[step - 1](h)
            layers = zip(self.vertical.down[step], self.horizontal.down[step], strict=True)
            for v_layer, h_layer in layers:
                v = v_layer(v, vs.pop(), v_shares[level])
                h = h_layer(h, torch.cat((v, hs.pop()), dim=1), h_shares[level])
        return h

    def components(self, features: Tensor, midpoint: Midpoint) -> Mixture:
        """Compute mixtures from the horizontal stack's last features, after an ELU."""
        out = self.output(features).float()
        if not self.hyperparameters.encoder:
            above, below, target = depths(out)
            out = torch.stack((above, target, below), dim=1)
        logits, means, log_scales = (x.flatten(1, -3) for x in out.chunk(3, dim=-3))
        return Mixture(logits, *midpoint.components(means, log_scales))
