"""A plain cached sampler in PyTorch, in the manner of Fast PixelCNN++ (Ramachandran et al. 2017).

Every convolution keeps its input. The vertical stack advances row by row, the horizontal stack
pixel by pixel, and each layer computes its one new output from the patch under its kernel
(arXiv:1704.06001). This is a peer for `pmtool bench`. It is built on the network's own layers and
uses nothing from `pmtool.graphs`: nothing is composed, fused or moved out of the loops except the
encoder's features or, without an encoder, the outer slices', which come from one forward pass of
the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from pmtool.interface.layout import Layout
from pmtool.models.hyperparameters import LEVELS
from pmtool.network import Mixture, PixelMiner, Stack
from pmtool.network.encoder import Midpoint
from pmtool.network.layers import AnyBlock, Block, GatedLayer, concat_elu, depths

Columns = slice


class Recorder:
    """Passes the inputs or outputs of layers to callbacks during one forward pass."""

    def __init__(self) -> None:
        self.handles: list[RemovableHandle] = []

    def input(self, layer: nn.Module, keep: Callable[[Tensor], None]) -> None:
        """Call ``keep`` with a layer's input."""
        self.handles.append(layer.register_forward_pre_hook(lambda _, inputs: keep(inputs[0])))

    def output(self, layer: nn.Module, keep: Callable[[Tensor], None]) -> None:
        """Call ``keep`` with a layer's output."""
        self.handles.append(layer.register_forward_hook(lambda _, inputs, output: keep(output)))

    def stop(self) -> None:
        """Remove all callbacks."""
        for handle in self.handles:
            handle.remove()


class CachedConvolution:
    """A causal convolution and its zero-padded input ``(N, C, H + top, left + W + right)``."""

    def __init__(
        self, convolution: nn.Conv2d, padding: tuple[int, int, int, int], recorder: Recorder
    ) -> None:
        self.convolution = convolution
        self.left, _, self.top, _ = padding
        self.x = torch.empty(0)
        recorder.input(convolution, self._keep)

    def _keep(self, x: Tensor) -> None:
        self.x = x.clone()

    def place(self, row: int, columns: Columns) -> Tensor:
        """Return the view ``(N, C, n)`` that holds the input of columns of a row."""
        return self.x[:, :, self.top + row, self.left + columns.start : self.left + columns.stop]

    def output(self, row: int, columns: Columns) -> Tensor:
        """Compute columns of a row of the output, ``(N, C_out, 1, n)``."""
        (kh, kw), (stride, _) = self.convolution.kernel_size, self.convolution.stride
        top, left, last = (stride * x for x in (row, columns.start, columns.stop - 1))
        result: Tensor = self.convolution(self.x[:, :, top : top + kh, left : last + kw])
        return result


class CachedBlock:
    """A block whose target advances along a row, some columns at a time.

    ``share`` ``(N, C_out, H, W)`` is added to the output: what the encoder's features give.
    """

    def __init__(self, block: AnyBlock, recorder: Recorder) -> None:
        self.pair: CachedConvolution | None = None
        if isinstance(block, Block):
            self.pair = CachedConvolution(block.pair, block.padding, recorder)
        last = block.merge if isinstance(block, Block) else block.conv
        self.last = CachedConvolution(last, block.padding, recorder)
        self.share: Tensor | None = None

    def push(self, x: Tensor, row: int, columns: Columns) -> None:
        """Store the target's new input ``(N, C, 1, n)``."""
        if self.pair is not None:
            upper, lower = self.pair.place(row, columns).chunk(2)
            upper[:, x.shape[1] :] = x[:, :, 0]
            lower[:, : x.shape[1]] = x[:, :, 0]
            x = torch.cat(self.pair.output(row, columns).chunk(2), dim=1)
        self.last.place(row, columns)[:] = x[:, :, 0]

    def output(self, row: int, columns: Columns) -> Tensor:
        """Compute the target's output ``(N, C_out, 1, n)``."""
        output = self.last.output(row, columns)
        return output if self.share is None else output + self.share[:, :, row : row + 1, columns]

    def __call__(self, x: Tensor, row: int, columns: Columns) -> Tensor:
        """Push the input and return the output."""
        self.push(x, row, columns)
        return self.output(row, columns)


class CachedGatedLayer:
    """A gated layer; its last output is kept for the horizontal stack."""

    def __init__(self, layer: GatedLayer, recorder: Recorder) -> None:
        self.layer = layer
        self.first = CachedBlock(layer.first, recorder)
        self.second = CachedBlock(layer.second, recorder)
        self.last = torch.empty(0)

    def __call__(self, x: Tensor, a: Tensor | None, row: int, columns: Columns) -> Tensor:
        """Advance by columns: ``(N, C, 1, n) -> (N, C, 1, n)``; ``a`` is the shortcut's input."""
        hidden = self.first(concat_elu(x), row, columns)
        if self.layer.shortcut is not None and a is not None:
            hidden = hidden + self.layer.shortcut(concat_elu(a))
        value, gate = self.second(concat_elu(hidden), row, columns).chunk(2, dim=1)
        self.last = x + value * torch.sigmoid(gate)
        return self.last


class CachedStack:
    """One of the two stacks; the horizontal one sees the vertical one's row.

    Lists are ordered by level, the finest first.
    """

    def __init__(
        self, stack: Stack, recorder: Recorder, vertical: CachedStack | None, *, encoded: bool
    ) -> None:
        self.vertical, self.encoded = vertical, encoded
        self.up, self.down = (
            [[CachedGatedLayer(layer, recorder) for layer in layers] for layers in lists]
            for lists in (list(stack.up), list(stack.down)[::-1])
        )
        self.strided = [CachedBlock(block, recorder) for block in stack.strided]
        self.upsample = list(stack.upsample)[::-1]
        self.upsampled = [torch.empty(0)] * (LEVELS - 1)
        for level, layer in enumerate(self.upsample):
            recorder.output(layer, partial(self._keep, level))

    def _keep(self, level: int, x: Tensor) -> None:
        self.upsampled[level] = (x if self.encoded else depths(x)[2]).clone()

    def give_shares(self, level: int, shares: Sequence[Tensor]) -> None:
        """Set the shares of a level's blocks, in the order of `Layout.shares`, without the first.

        The first one is that of the block that leads to the level.
        """
        layers = [*self.up[level], *self.down[level]]
        blocks = [block for layer in layers for block in (layer.first, layer.second)]
        for block, share in zip(blocks, shares, strict=True):
            block.share = share

    def __call__(self, x: Tensor, row: int, columns: Columns, level: int = 0) -> Tensor:
        """Pass new columns of a row, ``(N, C, 1, n)``, through a level and all coarser ones."""
        xs = [x]
        for number, layer in enumerate(self.up[level]):
            seen = None if self.vertical is None else self.vertical.up[level][number].last
            xs.append(layer(xs[-1], None if seen is None else seen[..., columns], row, columns))
        if level < LEVELS - 1:
            self._coarser(xs[-1], row, columns, level)
            x = self.upsampled[level][:, :, row, columns].unsqueeze(2)
        else:
            x = xs.pop()
        for number, layer in enumerate(self.down[level]):
            skip = xs.pop()
            if self.vertical is not None:
                seen = self.vertical.down[level][number].last
                skip = torch.cat((seen[..., columns], skip), dim=1)
            x = layer(x, skip, row, columns)
        return x

    def _coarser(self, x: Tensor, row: int, columns: Columns, level: int) -> None:
        """Advance the next level, which has an output at every second row and column."""
        self.strided[level].push(x, row, columns)
        if row % 2 or columns.start % 2:
            return
        half = slice(columns.start // 2, (columns.stop + 1) // 2)
        coarse = self(self.strided[level].output(row // 2, half), row // 2, half, level + 1)
        fine = self.upsampled[level][:, :, row : row + 2, 2 * half.start : 2 * half.stop]
        fine[:] = self.upsample[level](coarse)


class FastPixelCNN:
    """The network with caches, for N windows at once.

    Call `prefill` with the known rows; then, row by row, `start_row`, and for each of the row's
    columns `mixture` and `give`.
    """

    def __init__(self, network: PixelMiner) -> None:
        self.network, self.recorder = network, Recorder()
        self.encoded = network.hyperparameters.encoder > 0
        self.inputs = [
            CachedBlock(block, self.recorder)
            for block in (network.input_vertical, network.input_row, network.input_column)
        ]
        self.vertical = CachedStack(network.vertical, self.recorder, None, encoded=self.encoded)
        self.horizontal = CachedStack(
            network.horizontal, self.recorder, self.vertical, encoded=self.encoded
        )
        self.recorder.input(network.output, self._keep)

    def _keep(self, features: Tensor) -> None:
        self.features = features.clone()

    def prefill(
        self, above: Tensor, known: Tensor, below: Tensor, relative_thickness: Tensor
    ) -> None:
        """Fill the caches in one forward pass, see `PixelMiner.forward`; unknown rows are zero."""
        self.network(above, known, below, relative_thickness)
        self.recorder.stop()
        margin = (above.shape[-1] - known.shape[-1]) // 2
        self.midpoint = self.network.midpoint(above, below, relative_thickness, margin)
        self.residuals = self.midpoint.residual(known)
        target = self._target(self.features)
        self.v_entry, self.h_entry = torch.zeros_like(target), torch.zeros_like(target)
        if self.encoded:
            self._give_shares()

    def _give_shares(self) -> None:
        layout = Layout(self.network.hyperparameters)
        for level, plane in enumerate(self.network.planes(self.midpoint)):
            v, h = (half.split(layout.shares(level), dim=1) for half in plane.chunk(2, dim=1))
            for stack, (first, *shares) in ((self.vertical, v), (self.horizontal, h)):
                stack.give_shares(level, shares)
                if level:
                    stack.strided[level - 1].share = first
            if not level:
                self.v_entry, self.h_entry = v[0], h[0]

    def _target(self, x: Tensor) -> Tensor:
        return x if self.encoded else depths(x)[2]

    def start_row(self, row: int) -> None:
        """Run the vertical stack, and the horizontal one's input layers on the preceding rows."""
        everything = slice(0, self.residuals.shape[-1])
        v = self.v_entry[:, :, row : row + 1]
        self.from_above = self.h_entry[:, :, row : row + 1].clone()
        if row:
            x = self._input(row - 1, everything)
            v = v + self.inputs[0](x, row - 1, everything)
            self.from_above += self.inputs[1](x, row - 1, everything)
        self.vertical(v, row, everything)

    def mixture(self, row: int, column: int) -> Mixture:
        """Compute the mixture of the next pixel, tensors ``(N, components, 1, 1)``."""
        here, before = slice(column, column + 1), slice(column - 1, column)
        h = self.from_above[..., here]
        if column:
            h = h + self.inputs[2](self._input(row, before), row, before)
        features = self.features[:, :, row, here].unsqueeze(2)
        self._target(features)[:] = F.elu(self.horizontal(h, row, here))
        return self.network.components(features, self._midpoint(row, here))

    def give(self, row: int, column: int, pixels: Tensor) -> None:
        """Store the chosen pixels, ``(N,)`` in [-1, 1]."""
        here = slice(column, column + 1)
        residual = self._midpoint(row, here).residual(pixels.view(-1, 1, 1, 1))
        self.residuals[:, :, row, here] = residual[:, :, 0]

    def _input(self, row: int, columns: Columns) -> Tensor:
        x = self.residuals[:, :, row, columns].unsqueeze(2)
        return torch.cat((x, torch.ones_like(x)), dim=1)

    def _midpoint(self, row: int, columns: Columns) -> Midpoint:
        mean, log_scale = self.midpoint.mean, self.midpoint.log_scale
        mean, log_scale = (x[:, :, row, columns].unsqueeze(2) for x in (mean, log_scale))
        return Midpoint(mean, log_scale)
