"""The horizontal stack within a row: weights shared by the known and the pixel graph."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from pmtool.graphs import ops
from pmtool.graphs.composition import column_matrix, target_kernel, upsample_matrix
from pmtool.graphs.row import gated_layers, shortcut_matrix
from pmtool.interface.layout import Layout, carries
from pmtool.models.hyperparameters import LEVELS
from pmtool.network import PixelMiner
from pmtool.network.layers import AnyBlock, GatedLayer, Layers


def current_row(block: AnyBlock) -> Tensor:
    """This row's taps of a block, ``(3 in, out)``, for three columns concatenated by channel."""
    return column_matrix(target_kernel(block)[:, :, -1])


class CurrentRowLayer(nn.Module):
    """This row's own share in a gated layer; a shortcut's features are appended to the columns."""

    def __init__(self, layer: GatedLayer, *, down: bool) -> None:
        super().__init__()
        first = current_row(layer.first)
        if down:
            first = torch.cat((first, shortcut_matrix(layer, 1, 2)))
        self.register_buffer("first", first)
        self.register_buffer("second", current_row(layer.second))


class HorizontalWeights(nn.Module):
    """Weights of a row's horizontal stack at the first ``depth`` levels."""

    def __init__(self, network: PixelMiner, depth: int) -> None:
        super().__init__()
        hp = network.hyperparameters
        self.layout, self.depth = Layout(hp), depth
        column = target_kernel(network.input_column)  # (C, 2, 3, 1)
        self.register_buffer("input", column[:, 0, 2, 0].reshape(1, -1).contiguous())
        self.layers: Layers[Layers[CurrentRowLayer]] = Layers(
            Layers(
                CurrentRowLayer(layer, down=i >= hp.blocks)
                for i, layer in enumerate(gated_layers(network, "h", level))
            )
            for level in range(depth)
        )
        stack = network.horizontal
        for level in range(depth - 1):
            self.register_buffer(f"strided{level}", current_row(stack.strided[level]))
            upsample = stack.upsample[LEVELS - 2 - level]
            self.register_buffer(f"upsample{level}", upsample_matrix(upsample))
            self.register_buffer(
                f"upsample_bias{level}", cast(Tensor, upsample.conv.bias).detach().clone()
            )

    def layer(self, level: int, index: int) -> CurrentRowLayer:
        """A gated layer, in the order of `Layout`."""
        return self.layers[level][index]

    def upsample(self, level: int) -> tuple[Tensor, Tensor]:
        """Matrix and bias of the transposed convolution into a level."""
        return self.get_buffer(f"upsample{level}"), self.get_buffer(f"upsample_bias{level}")


class OutputWeights(nn.Module):
    """The last convolution, which gives the target components of a pixel's mixture."""

    def __init__(self, network: PixelMiner) -> None:
        super().__init__()
        matrix = network.output.weight.detach()[:, :, 0, 0].T.contiguous()
        self.register_buffer("matrix", matrix)
        self.register_buffer("bias", cast(Tensor, network.output.bias).detach().clone())


class KnownGraph(nn.Module):
    """The horizontal stack of a row's first columns, whose pixels are given.

    Inputs, with ``K`` columns at their level: ``residuals`` ``(K, M)``, those of the columns'
    left neighbours; ``h_shares<l>`` ``(K, M, S)``; ``h<l>_carry`` ``(K, M, C)`` if the level below
    is not touched.
    Outputs: every ``<line>_last`` of the horizontal stack and ``h<l>_carry_next``, ``(K, M, C)``.
    """

    def __init__(self, network: PixelMiner, depth: int) -> None:
        super().__init__()
        self.weights = HorizontalWeights(network, depth)
        read, written = carries("h", depth)
        self.inputs = ["residuals", *(f"h_shares{level}" for level in range(depth)), *read]
        lines = self.weights.layout.lines("h", depth)
        moved_on = [f"{carry}_next" for carry in written]
        self.outputs = [*(f"{line.name}_last" for line in lines), *moved_on]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        results = _KnownColumns(self.weights, dict(zip(self.inputs, tensors, strict=True))).run()
        return tuple(results[name] for name in self.outputs)


class _KnownColumns:
    """One pass of a `KnownGraph`."""

    def __init__(self, weights: HorizontalWeights, values: dict[str, Tensor]) -> None:
        self.weights, self.values = weights, values
        self.results: dict[str, Tensor] = {}
        layout = weights.layout
        self.shares = [
            list(values[f"h_shares{level}"].split(layout.shares(level), dim=-1))
            for level in range(weights.depth)
        ]

    def run(self) -> dict[str, Tensor]:
        weights, depth = self.weights, self.weights.depth
        n = weights.layout.hyperparameters.blocks
        residuals = self.values["residuals"].unsqueeze(-1)
        skips = [self.shares[0].pop(0) + residuals * weights.get_buffer("input")]
        for level in range(depth):
            if level:
                matrix = weights.get_buffer(f"strided{level - 1}")
                columns = ops.product(_left_columns(skips[-1])[::2], matrix)
                skips.append(self.shares[level].pop(0) + columns)
            for layer in range(n):
                skips.append(self._layer(level, layer, skips[-1], None))
            if level < LEVELS - 1:
                self.results[f"h{level}_strided_last"] = skips[-1]
        h = skips.pop() if depth == LEVELS else self.values[f"h{depth - 1}_carry"]
        for level in reversed(range(depth)):
            if level < depth - 1:
                matrix, bias = weights.upsample(level)
                self.results[f"h{level}_carry_next"] = ops.upsample_columns(h, matrix, bias, 1)
                h = ops.upsample_columns(h, matrix, bias, 0)
            for layer in range(n, weights.layout.gated(level)):
                h = self._layer(level, layer, h, skips.pop())
        return self.results

    def _layer(self, level: int, index: int, h: Tensor, skip: Tensor | None) -> Tensor:
        layer, name, shares = self.weights.layer(level, index), f"h{level}_{index}", self.shares
        line = self.results[f"{name}_first_last"] = ops.concat_elu(h)
        columns = _left_columns(line)
        if skip is not None:
            columns = torch.cat((columns, ops.concat_elu(skip)), dim=-1)
        hidden = shares[level].pop(0) + ops.product(columns, layer.get_buffer("first"))
        line = self.results[f"{name}_second_last"] = ops.concat_elu(hidden)
        second = ops.product(_left_columns(line), layer.get_buffer("second"))
        return ops.gate(h, shares[level].pop(0) + second)


def _left_columns(x: Tensor) -> Tensor:
    """Append each column to its two left neighbours: ``(K, M, C) -> (K, M, 3 C)``."""
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 2, 0))
    return torch.cat((padded[:-2], padded[1:-1], x), dim=-1)
