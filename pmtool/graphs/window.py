"""The window graph: everything that the two acquired slices alone determine."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pmtool.graphs.kernels import parts
from pmtool.layout import LEVELS, Layout
from pmtool.network.layers import Block, GatedLayer, concat_elu, shift_down, shift_right
from pmtool.network.pixelminer import (
    LOG_SCALE_MIN,
    LOG_SCALE_OFFSET,
    MEAN_UNIT,
    PixelMiner,
    Stack,
)


class OuterStack:
    """Outer slices' features of one stack on their way through the network.

    Attributes
    ----------
    x
        Features of above and below, ``(2, C, H, W)``.
    shares
        By level, what the outer slices (and all biases) add to the target, ``(1, C, H, W)`` each.
    """

    def __init__(self, stack: Stack, x: Tensor, share: Tensor) -> None:
        self.stack, self.x = stack, x
        self.shares: list[list[Tensor]] = [[share], [], []]
        self.skips = [x]

    def up(self, level: int, layer: int, shortcut: Tensor | None) -> None:
        self._gated(self.stack.up[level][layer], level, shortcut)
        self.skips.append(self.x)

    def down(self, step: int, layer: int, shortcut: Tensor) -> None:
        self._gated(self.stack.down[step][layer], LEVELS - 1 - step, shortcut)

    def strided(self, level: int) -> None:
        self.x, share = _block(self.stack.strided[level - 1], self.x)
        self.shares[level].append(share)
        self.skips.append(self.x)

    def upsample(self, step: int) -> None:
        self.x = self.stack.upsample[step - 1](self.x)

    def _gated(self, layer: GatedLayer, level: int, shortcut: Tensor | None) -> None:
        hidden, share = _block(layer.first, concat_elu(self.x))
        if layer.shortcut is not None and shortcut is not None:
            hidden = hidden + layer.shortcut(concat_elu(shortcut))
            share = share + layer.shortcut.bias.view(1, -1, 1, 1)
        outputs, second = _block(layer.second, concat_elu(hidden))
        self.shares[level] += [share, second]
        value, gate = outputs.chunk(2, dim=1)
        self.x = self.x + value * torch.sigmoid(gate)


class WindowGraph(nn.Module):
    """Shares of all blocks and the known part of the mixture.

    Input: ``above`` and ``below``, ``(1, 1, H, W)`` in [-1, 1]. Outputs, channels last:
    ``shares0 .. shares2`` ``(H / 2^l, W / 2^l, S)``, the vertical stack's shares before the
    horizontal one's; ``mixture`` ``(H, W, 6 K + 1)``, see `Layout.mixture`.
    """

    inputs = ["above", "below"]
    outputs = ["shares0", "shares1", "shares2", "mixture"]

    def __init__(self, network: PixelMiner) -> None:
        super().__init__()
        self.network = network
        self.layout = Layout(network.hyperparameters)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        above, below = tensors
        v, h = self._entry(above, below)
        for level in range(LEVELS):
            if level:
                v.strided(level)
                h.strided(level)
            for layer in range(len(v.stack.up[level])):
                v.up(level, layer, None)
                h.up(level, layer, v.x)
        v.skips.pop(), h.skips.pop()
        for step in range(LEVELS):
            if step:
                v.upsample(step)
                h.upsample(step)
            for layer in range(len(v.stack.down[step])):
                v.down(step, layer, v.skips.pop())
                h.down(step, layer, torch.cat((v.x, h.skips.pop()), dim=1))
        planes = [torch.cat(v.shares[level] + h.shares[level], dim=1) for level in range(LEVELS)]
        planes.append(self._mixture(h.x, above, below))
        return tuple(plane[0].permute(1, 2, 0) for plane in planes)

    def _entry(self, above: Tensor, below: Tensor) -> tuple[OuterStack, OuterStack]:
        net = self.network
        x = torch.cat((above, below, torch.zeros_like(above)))
        x = torch.cat((x, torch.ones_like(x)), dim=1)
        v = shift_down(net.input_vertical(x))
        h = shift_down(net.input_row(x)) + shift_right(net.input_column(x))
        return OuterStack(net.vertical, v[:2], v[2:]), OuterStack(net.horizontal, h[:2], h[2:])

    def _mixture(self, h: Tensor, above: Tensor, below: Tensor) -> Tensor:
        outputs = self.network.output(F.elu(h))
        logits, means, log_scales = (
            part.flatten(0, 1).unsqueeze(0) for part in outputs.chunk(3, dim=1)
        )
        base = torch.zeros_like(above)
        if self.network.hyperparameters.offset_means:
            k = self.network.hyperparameters.mixtures
            bases = (above.expand(-1, k, -1, -1), below.expand(-1, k, -1, -1))
            means = torch.cat(bases, dim=1) + MEAN_UNIT * means
            log_scales = LOG_SCALE_OFFSET + log_scales
            base = (above + below) / 2
        inverse_scales = torch.exp(-log_scales.clamp(min=LOG_SCALE_MIN))
        return torch.cat((logits, means, inverse_scales, base), dim=1)


def _block(block: Block, x: Tensor) -> tuple[Tensor, Tensor]:
    """The block's outer output, and its target output for a target of zero."""
    p = parts(block)
    above, below = x.chunk(2)
    upper = F.conv2d(F.pad(above, block.padding), p.pair_first, block.pair.bias)
    lower = F.conv2d(F.pad(below, block.padding), p.pair_second, block.pair.bias)
    share = block.merge(F.pad(torch.cat((upper, lower), dim=1), block.padding))
    return block.outer(x), share
