"""The PixelMiner network (paper, section 2.2 and figure 1B)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pmtool.models.hyperparameters import LEVELS, Hyperparameters
from pmtool.network.encoder import Encoder, Midpoint, cropped, no_midpoint
from pmtool.network.layers import (
    Block,
    GatedLayer,
    Layers,
    Upsample,
    conv,
    depths,
    shift_down,
    shift_right,
)

VERTICAL = (2, 3)
HORIZONTAL = (2, 2)


class Mixture(NamedTuple):
    """A discretised logistic mixture for every pixel; each tensor is ``(N, 3 K, H, W)``.

    The components are those of the depths above, target and below, in this order.
    Means and scales are in units of the network's input, [-1, 1].
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

    def __init__(self, c: int, n: int, *, horizontal: bool, dropout: float) -> None:
        super().__init__()
        kernel = HORIZONTAL if horizontal else VERTICAL

        def gated(count: int, shortcut: int) -> Layers[GatedLayer]:
            return Layers(
                GatedLayer(c, kernel, causal_left=horizontal, shortcut=shortcut, dropout=dropout)
                for _ in range(count)
            )

        self.up = Layers(gated(n, c if horizontal else 0) for _ in range(LEVELS))
        self.strided = Layers(
            Block(c, c, kernel, stride=2, causal_left=horizontal) for _ in range(LEVELS - 1)
        )
        counts = n, *([n + 1] * (LEVELS - 1))
        self.down = Layers(gated(count, 2 * c if horizontal else c) for count in counts)
        self.upsample = Layers(Upsample(c, kernel) for _ in range(LEVELS - 1))


class PixelMiner(nn.Module):
    """Distribution of every pixel of a slice, given both neighbours and the pixels before it.

    The order of pixels is raster order: row by row, from left to right. With an encoder, the stacks
    see every slice relative to the encoder's midpoint and in units of its scale, and their mixture
    is in these terms too; the encoder's features enter both stacks. Without an encoder, this is the
    paper's network.
    """

    def __init__(self, hyperparameters: Hyperparameters, dropout: float = 0.0) -> None:
        super().__init__()
        self.hyperparameters = hyperparameters
        c, n = hyperparameters.channels, hyperparameters.blocks
        if hyperparameters.encoder:
            self.encoder = Encoder(hyperparameters.encoder)
            self.features_vertical = conv(hyperparameters.encoder, c, (1, 1))
            self.features_horizontal = conv(hyperparameters.encoder, c, (1, 1))
        self.input_vertical = Block(2, c, (2, 3), causal_left=False)
        self.input_row = Block(2, c, (1, 3), causal_left=False)
        self.input_column = Block(2, c, (2, 1), causal_left=True)
        self.vertical = Stack(c, n, horizontal=False, dropout=dropout)
        self.horizontal = Stack(c, n, horizontal=True, dropout=dropout)
        self.output = conv(c, 3 * hyperparameters.mixtures, (1, 1))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def forward(
        self, above: Tensor, target: Tensor, below: Tensor, relative_thickness: Tensor
    ) -> Mixture:
        """Return the mixtures of all pixels of ``target``; slices are ``(N, 1, H, W)`` in [-1, 1].

        Height and width are multiples of 4. The neighbours may extend beyond the target by the
        same number of pixels on all sides, which only the encoder sees. Likewise, only the
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
        x = midpoint.residual(torch.cat((above, below, target)).unflatten(0, (3, -1))).flatten(0, 1)
        v, h = self.entry(midpoint, x)
        return self.components(F.elu(self._stacks(v, h)), midpoint)

    def entry(self, midpoint: Midpoint, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the inputs of both stacks: ``(3 N, 1, H, W) -> (3 N, C, H, W)`` each.

        A channel of ones distinguishes padding from a residual of 0.
        """
        x = torch.cat((residuals, torch.ones_like(residuals)), dim=1)
        v = shift_down(self.input_vertical(x))
        h = shift_down(self.input_row(x)) + shift_right(self.input_column(x))
        if midpoint.features is not None:
            v = v + self.features_vertical(midpoint.features).repeat(3, 1, 1, 1)
            h = h + self.features_horizontal(midpoint.features).repeat(3, 1, 1, 1)
        return v, h

    def _stacks(self, v: Tensor, h: Tensor) -> Tensor:
        vs, hs = [v], [h]
        for level in range(LEVELS):
            if level:
                v = self.vertical.strided[level - 1](v)
                h = self.horizontal.strided[level - 1](h)
                vs.append(v)
                hs.append(h)
            layers = zip(self.vertical.up[level], self.horizontal.up[level], strict=True)
            for v_layer, h_layer in layers:
                v = v_layer(v)
                h = h_layer(h, v)
                vs.append(v)
                hs.append(h)
        v, h = vs.pop(), hs.pop()
        for step in range(LEVELS):
            if step:
                v = self.vertical.upsample[step - 1](v)
                h = self.horizontal.upsample[step - 1](h)
            layers = zip(self.vertical.down[step], self.horizontal.down[step], strict=True)
            for v_layer, h_layer in layers:
                v = v_layer(v, vs.pop())
                h = h_layer(h, torch.cat((v, hs.pop()), dim=1))
        return h

    def components(self, features: Tensor, midpoint: Midpoint) -> Mixture:
        """Compute mixtures from the horizontal stack's last features, after an ELU.

        The features are ``(3 N, C, H, W)``.
        """
        out_above, out_below, out_target = depths(self.output(features).float())
        outputs = (out.chunk(3, dim=1) for out in (out_above, out_target, out_below))
        logits, means, log_scales = (torch.cat(x, dim=1) for x in zip(*outputs, strict=True))
        return Mixture(logits, *midpoint.components(means, log_scales))
