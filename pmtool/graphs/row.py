"""The row graph: the vertical stack of a row, and earlier rows' share in the horizontal stack."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from pmtool.graphs import ops
from pmtool.graphs.composition import as_matrix, edge_kernel, target_kernel, upsample_matrix
from pmtool.interface.layout import Layout, carries
from pmtool.models.hyperparameters import LEVELS
from pmtool.network import PixelMiner
from pmtool.network.layers import AnyBlock, Block, GatedLayer, Layers, Upsample


class VerticalConvolution(nn.Module):
    """The target's own share of a block of the vertical stack, for one row."""

    def __init__(self, block: AnyBlock, channels: slice = slice(None)) -> None:
        super().__init__()
        kernel = target_kernel(block)[:, channels]
        self.reach = kernel.shape[-1] // 2
        self.strided = block.stride == 2
        self.composed = isinstance(block, Block)
        self.register_buffer("matrix", as_matrix(kernel))
        if isinstance(block, Block):
            for side in ("left", "right"):
                edge = edge_kernel(block, side)[:, channels, :, None]
                self.register_buffer(side, as_matrix(edge))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve rows: ``(W, M, rows x in) -> (W / stride, M, out)``."""
        convolve = ops.convolve_strided if self.strided else ops.convolve
        y = convolve(x, self.get_buffer("matrix"), self.reach, self.reach)
        if not self.composed:
            return y
        right = None if self.strided else self.get_buffer("right")
        return ops.subtract_edges(y, x, self.get_buffer("left"), right)


class EarlierRows(nn.Module):
    """Share of the two earlier rows in a block of the horizontal stack."""

    def __init__(self, block: AnyBlock) -> None:
        super().__init__()
        self.strided = block.stride == 2
        self.register_buffer("matrix", as_matrix(target_kernel(block)[:, :, :2]))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the two earlier rows: ``(W, M, 2 x in) -> (W / stride, M, out)``."""
        convolve = ops.convolve_strided if self.strided else ops.convolve
        return convolve(x, self.get_buffer("matrix"), 2, 0)


class RowUpsample(nn.Module):
    """Transposed convolution of a row, see `ops.upsample_columns`."""

    def __init__(self, upsample: Upsample) -> None:
        super().__init__()
        self.register_buffer("matrix", upsample_matrix(upsample))
        self.register_buffer("bias", cast(Tensor, upsample.conv.bias).detach())

    def forward(self, x: Tensor, row: int) -> Tensor:
        """Upsample to the upper or lower row: ``(W, M, C) -> (2 W, M, C)``."""
        return ops.upsample_columns(x, self.get_buffer("matrix"), self.get_buffer("bias"), row)


def gated_layers(network: PixelMiner, stack: str, level: int) -> list[GatedLayer]:
    """Gated layers of a level, of the up and then of the down pass, in the order of `Layout`."""
    half = network.vertical if stack == "v" else network.horizontal
    return [*half.up[level], *half.down[LEVELS - 1 - level]]


def shortcut_matrix(layer: GatedLayer, part: int = 0, inputs: int = 1) -> Tensor:
    """Weight of one of the tensors that a shortcut concatenates: ``(2 C, C)``."""
    assert layer.shortcut is not None
    pieces = layer.shortcut.weight.detach()[:, :, 0, 0].T.chunk(2 * inputs)
    return torch.cat((pieces[part], pieces[part + inputs])).contiguous()


class VerticalLayer(nn.Module):
    """A gated layer of the vertical stack, and the weight of its shortcut to the horizontal one."""

    def __init__(self, layer: GatedLayer, horizontal: GatedLayer, *, down: bool) -> None:
        super().__init__()
        self.first = VerticalConvolution(layer.first)
        self.second = VerticalConvolution(layer.second)
        if down:
            self.register_buffer("shortcut", shortcut_matrix(layer))
        self.register_buffer("to_horizontal", shortcut_matrix(horizontal, 0, 2 if down else 1))


class HorizontalLayer(nn.Module):
    """Earlier rows' share in a gated layer of the horizontal stack."""

    def __init__(self, layer: GatedLayer) -> None:
        super().__init__()
        self.first, self.second = EarlierRows(layer.first), EarlierRows(layer.second)


class RowGraph(nn.Module):
    """One row of the target at the first ``depth`` levels.

    Inputs, with ``W`` columns at their level and ``M`` lanes: ``residuals`` ``(3, 1 + W, M)``, the
    three rows above with a column of zeros on the left; ``shares<l>`` ``(W, M, S)``, the row of the
    window graph's planes; for every line of the vertical stack ``<line>_cache`` ``(W, M, 2 C)``,
    its two earlier rows; for every line of the horizontal stack ``<line>_cache`` ``(W, M, C)``, the
    row before the last, and ``<line>_last``, the last one; ``v<l>_carry`` if the level below is not
    touched.

    Outputs: ``h_shares<l>``, all shares in the horizontal stack except this row's own; all
    ``<line>_cache_next``, the caches advanced by a row; ``v<l>_carry_next`` for the row that
    follows.
    """

    def __init__(self, network: PixelMiner, depth: int) -> None:
        super().__init__()
        self.layout, self.depth = Layout(network.hyperparameters), depth
        pixel = slice(0, 1)
        self.input_vertical = VerticalConvolution(network.input_vertical, pixel)
        self.input_row = VerticalConvolution(network.input_row, pixel)
        column = target_kernel(network.input_column)[:, pixel, :2]
        self.register_buffer("input_column", as_matrix(column))
        self.vertical: Layers[Layers[VerticalLayer]] = Layers([])
        self.horizontal: Layers[Layers[HorizontalLayer]] = Layers([])
        ups = network.hyperparameters.blocks
        for level in range(depth):
            vertical, horizontal = (gated_layers(network, stack, level) for stack in "vh")
            pairs = enumerate(zip(vertical, horizontal, strict=True))
            self.vertical.append(Layers(VerticalLayer(v, h, down=i >= ups) for i, (v, h) in pairs))
            self.horizontal.append(Layers(HorizontalLayer(h) for h in horizontal))
        self.v_strided = nn.ModuleList(
            VerticalConvolution(network.vertical.strided[level]) for level in range(depth - 1)
        )
        self.h_strided = nn.ModuleList(
            EarlierRows(network.horizontal.strided[level]) for level in range(depth - 1)
        )
        self.upsample = nn.ModuleList(
            RowUpsample(network.vertical.upsample[LEVELS - 2 - level]) for level in range(depth - 1)
        )
        self.inputs, self.outputs = self._names()

    def _names(self) -> tuple[list[str], list[str]]:
        levels = range(self.depth)
        caches = [f"{line.name}_cache" for s in "vh" for line in self.layout.lines(s, self.depth)]
        lasts = [f"{line.name}_last" for line in self.layout.lines("h", self.depth)]
        read, written = carries("v", self.depth)
        inputs = ["residuals", *(f"shares{level}" for level in levels), *caches, *lasts, *read]
        moved_on = [f"{name}_next" for name in (*caches, *written)]
        return inputs, [*(f"h_shares{level}" for level in levels), *moved_on]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self.inputs, tensors, strict=True))
        results = _Row(self, values).run()
        return tuple(results[name] for name in self.outputs)


def row_weights(network: PixelMiner) -> dict[str, Tensor]:
    """Weights of a row that touches all levels, by name."""
    return RowGraph(network, LEVELS).state_dict()


class _Row:
    """One pass of a `RowGraph`: the tensors on their way from the input to the last layer."""

    def __init__(self, graph: RowGraph, values: dict[str, Tensor]) -> None:
        self.graph, self.values = graph, values
        self.results: dict[str, Tensor] = {}
        self.shares: dict[str, list[Tensor]] = {}
        for level in range(graph.depth):
            sizes = graph.layout.shares(level)
            parts = values[f"shares{level}"].split(sizes * 2, dim=-1)
            self.shares[f"v{level}"] = list(parts[: len(sizes)])
            self.shares[f"h{level}"] = list(parts[len(sizes) :])
        self.h_shares: list[list[Tensor]] = [[] for _ in range(graph.depth)]

    def run(self) -> dict[str, Tensor]:
        n, depth = self.graph.layout.hyperparameters.blocks, self.graph.depth
        skips = [self._entry()]
        for level in range(depth):
            if level:
                skips.append(self._strided(level, skips[-1]))
            for layer in range(n):
                skips.append(self._layer(level, layer, skips[-1], None))
        self._keep_strided_line(depth - 1, skips[-1])
        v = skips.pop() if depth == LEVELS else self.values[f"v{depth - 1}_carry"]
        for level in reversed(range(depth)):
            if level < depth - 1:
                self.results[f"v{level}_carry_next"] = self.graph.upsample[level](v, 1)
                v = self.graph.upsample[level](v, 0)
            for layer in range(n, self.graph.layout.gated(level)):
                v = self._layer(level, layer, v, skips.pop())
        for level, parts in enumerate(self.h_shares):
            self.results[f"h_shares{level}"] = torch.cat(parts, dim=-1)
        return self.results

    def _entry(self) -> Tensor:
        graph, residuals = self.graph, self.values["residuals"].permute(1, 2, 0)
        x, left = residuals[1:], residuals[:-1, :, 1:]
        self.h_shares[0].append(
            self.shares["h0"].pop(0)
            + graph.input_row(x[..., 2:])
            + ops.product(left, graph.get_buffer("input_column"))
        )
        return cast(Tensor, self.shares["v0"].pop(0) + graph.input_vertical(x))

    def _strided(self, level: int, v: Tensor) -> Tensor:
        graph, name = self.graph, f"{level - 1}_strided"
        rows = self._earlier(f"h{name}")
        self.h_shares[level].append(
            self.shares[f"h{level}"].pop(0) + graph.h_strided[level - 1](rows)
        )
        rows = self._with_cache(f"v{name}", v)
        return cast(Tensor, self.shares[f"v{level}"].pop(0) + graph.v_strided[level - 1](rows))

    def _keep_strided_line(self, level: int, v: Tensor) -> None:
        """Keep the strided line for the level below, which this row does not touch."""
        if level < LEVELS - 1:
            self._with_cache(f"v{level}_strided", v)
            self._earlier(f"h{level}_strided")

    def _layer(self, level: int, layer: int, v: Tensor, skip: Tensor | None) -> Tensor:
        vertical = self.graph.vertical[level][layer]
        name, shares = f"{level}_{layer}", self.shares[f"v{level}"]
        rows = self._with_cache(f"v{name}_first", ops.concat_elu(v))
        hidden = shares.pop(0) + vertical.first(rows)
        if skip is not None:
            hidden = hidden + ops.product(ops.concat_elu(skip), vertical.get_buffer("shortcut"))
        rows = self._with_cache(f"v{name}_second", ops.concat_elu(hidden))
        v = ops.gate(v, shares.pop(0) + vertical.second(rows))
        self._horizontal_shares(level, layer, v)
        return v

    def _horizontal_shares(self, level: int, layer: int, v: Tensor) -> None:
        horizontal = self.graph.horizontal[level][layer]
        vertical = self.graph.vertical[level][layer]
        shares, name = self.shares[f"h{level}"], f"h{level}_{layer}"
        first = horizontal.first(self._earlier(f"{name}_first"))
        second = horizontal.second(self._earlier(f"{name}_second"))
        to_horizontal = ops.product(ops.concat_elu(v), vertical.get_buffer("to_horizontal"))
        first = first + shares.pop(0) + to_horizontal
        self.h_shares[level] += [first, second + shares.pop(0)]

    def _with_cache(self, line: str, x: Tensor) -> Tensor:
        """Append this row to the two before it, and keep the last two rows for the next row."""
        rows = torch.cat((self.values[f"{line}_cache"], x), dim=-1)
        self.results[f"{line}_cache_next"] = rows[..., x.shape[-1] :]
        return rows

    def _earlier(self, line: str) -> Tensor:
        """Return the two rows before this one, and keep the last of them for the next row."""
        last = self.values[f"{line}_last"]
        rows = torch.cat((self.values[f"{line}_cache"], last), dim=-1)
        self.results[f"{line}_cache_next"] = rows[..., last.shape[-1] :]
        return rows
