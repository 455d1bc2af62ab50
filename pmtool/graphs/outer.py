"""The outer slices' way through the stacks of a network without an encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from pmtool.graphs import ops
from pmtool.graphs.composition import parts
from pmtool.models.hyperparameters import LEVELS
from pmtool.network import PixelMiner, Stack
from pmtool.network.encoder import Midpoint
from pmtool.network.layers import AnyBlock, Block, GatedLayer, depths

T = TypeVar("T")
Outer = tuple[Tensor, Tensor]
"""Features of the slices above and below, ``(N, C, H, W)`` each."""


class OuterStack:
    """The outer slices' features of one stack on their way through the network.

    Attributes
    ----------
    x
        Current features.
    shares
        Shares of the outer slices and of all biases in the target, ``(N, C, H, W)``, per level.
    skips
        Outputs that are kept for the down pass.
    """

    def __init__(self, stack: Stack, x: Tensor) -> None:
        above, below, share = depths(x)
        self.stack: Stack = stack
        self.x: Outer = (above, below)
        self.shares: list[list[Tensor]] = [[share], *([] for _ in range(LEVELS - 1))]
        self.skips = [self.x]

    def up(self, level: int, layer: int, shortcut: Outer | None) -> None:
        """Apply a gated layer of the up pass."""
        self._gated(self.stack.up[level][layer], level, shortcut)
        self.skips.append(self.x)

    def down(self, step: int, layer: int, shortcut: Outer) -> None:
        """Apply a gated layer of the down pass."""
        self._gated(self.stack.down[step][layer], LEVELS - 1 - step, shortcut)

    def strided(self, level: int) -> None:
        """Apply the strided block that leads to a level."""
        self.x, share = _block(self.stack.strided[level - 1], self.x)
        self.shares[level].append(share)
        self.skips.append(self.x)

    def upsample(self, step: int) -> None:
        """Apply the transposed convolution before a step of the down pass."""
        layer = self.stack.upsample[step - 1]
        self.x = _both(layer, self.x)

    def _gated(self, layer: GatedLayer, level: int, shortcut: Outer | None) -> None:
        hidden, share = _block(layer.first, _both(_concat_elu, self.x))
        convolution = layer.shortcut
        if convolution is not None and shortcut is not None:
            added = [convolution(_concat_elu(a)) for a in shortcut]
            hidden = hidden[0] + added[0], hidden[1] + added[1]
            share = share + cast(Tensor, convolution.bias).view(1, -1, 1, 1)
        outputs, second = _block(layer.second, _both(_concat_elu, hidden))
        self.shares[level] += [share, second]
        self.x = _gate(self.x[0], outputs[0]), _gate(self.x[1], outputs[1])


def outer_planes(network: PixelMiner, above: Tensor, below: Tensor) -> tuple[list[Tensor], Outer]:
    """Pass the outer slices ``(N, 1, H, W)`` through both stacks.

    Returns their shares and all biases in the target, see `PixelMiner.planes`, and the horizontal
    stack's last features.
    """
    v, h = (
        OuterStack(stack, x)
        for stack, x in zip(
            (network.vertical, network.horizontal),
            network.entry(torch.cat((above, below, torch.zeros_like(above)))),
            strict=True,
        )
    )
    for level in range(LEVELS):
        if level:
            v.strided(level)
            h.strided(level)
        for layer in range(len(v.stack.up[level])):
            v.up(level, layer, None)
            h.up(level, layer, v.x)
    v.skips.pop()
    h.skips.pop()
    for step in range(LEVELS):
        if step:
            v.upsample(step)
            h.upsample(step)
        for layer in range(len(v.stack.down[step])):
            v.down(step, layer, v.skips.pop())
            skip = h.skips.pop()
            pairs = zip(v.x, skip, strict=True)
            above_below = [torch.cat(pair, dim=1) for pair in pairs]
            h.down(step, layer, (above_below[0], above_below[1]))
    planes = [torch.cat(v.shares[level] + h.shares[level], dim=1) for level in range(LEVELS)]
    return planes, h.x


def outer_components(network: PixelMiner, features: Outer, midpoint: Midpoint) -> list[Tensor]:
    """Logits, means and inverse scales of the outer slices' components, from `outer_planes`."""
    outputs = _both(lambda x: network.output(F.elu(x)).chunk(3, dim=1), features)
    logits, means, log_scales = (torch.cat(x, dim=1) for x in zip(*outputs, strict=True))
    means, log_scales = midpoint.components(means, log_scales)
    return [logits, means, torch.exp(-log_scales)]


def _both(function: Callable[[Tensor], T], x: Outer) -> tuple[T, T]:
    return function(x[0]), function(x[1])


def _concat_elu(x: Tensor) -> Tensor:
    return ops.concat_elu(x, dim=1)


def _gate(x: Tensor, outputs: Tensor) -> Tensor:
    return ops.gate(x, outputs, dim=1)


def _block(block: AnyBlock, x: Outer) -> tuple[Outer, Tensor]:
    """Return a block's outputs for the outer slices, and its output for a target of zeros."""
    assert isinstance(block, Block)
    p = parts(block)
    upper = F.conv2d(F.pad(x[0], block.padding), p.pair_first, block.pair.bias)
    lower = F.conv2d(F.pad(x[1], block.padding), p.pair_second, block.pair.bias)
    share = block.merge(F.pad(torch.cat((upper, lower), dim=1), block.padding))
    return _both(block.outer, x), share
