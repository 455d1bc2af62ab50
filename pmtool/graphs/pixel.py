"""The pixel graph: the horizontal stack column by column, and the choice of every new pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pmtool.graphs import choose, ops
from pmtool.graphs.horizontal import HorizontalWeights, OutputWeights
from pmtool.interface.layout import COLUMNS, carries
from pmtool.models.hyperparameters import (
    COMPONENT_LOG_SCALE_MAX,
    COMPONENT_MAX,
    LEVELS,
    LOG_SCALE_MIN,
    RESIDUAL_MAX,
)
from pmtool.network import PixelMiner


class PixelGraph(nn.Module):
    """Four columns of a row: one of the coarsest level, two of the middle, four of the finest.

    ``chooser`` is ``"quantile"`` (at a uniform number) or ``"mean"``.

    States, which are both inputs and outputs: ``previous`` ``(M, 1)``, the residual of the pixel on
    the left; for every line of the horizontal stack ``<line>_before2`` and ``<line>_before1``
    ``(M, C)``, its last two columns. Inputs, for the ``n`` columns of a level: ``h_shares<l>``
    ``(n, M, S)``; ``mixture`` ``(4, M, X)``, see `Layout.mixture`; ``tails`` ``(4, M, 1)``, see
    `mixture.nearer_tail`; ``h<l>_carry`` ``(n, M, C)`` if the level below is not touched. Outputs:
    ``pixels`` ``(4, M, 1)`` in [-1, 1] and their ``residuals``; ``parameters`` ``(4, M, 3 K)``
    (logits, means and log-scales of the target components); ``<line>_last`` and
    ``h<l>_carry_next`` ``(n, M, C)``.
    """

    def __init__(self, network: PixelMiner, depth: int, chooser: str) -> None:
        super().__init__()
        self.weights, self.output = HorizontalWeights(network, depth), OutputWeights(network)
        self.hyperparameters, self.chooser = network.hyperparameters, chooser
        edges = choose.upper_edges(network.hyperparameters.bits)
        self.steps = len(edges)
        for step, values in enumerate(edges):
            self.register_buffer(f"edges{step}", values)
        layout = self.weights.layout
        lines = [line.name for line in layout.lines("h", depth)]
        levels = range(depth)
        self.states = ["previous", *(f"{x}_before{i}" for x in lines for i in (2, 1))]
        read, written = carries("h", depth)
        self.scanned = [*(f"h_shares{x}" for x in levels), "mixture", "tails", *read]
        self.inputs = [*self.states, *self.scanned]
        moved_on = [*(f"{line}_last" for line in lines), *(f"{carry}_next" for carry in written)]
        self.results = ["pixels", "residuals", "parameters", *moved_on]
        self.outputs = [*(f"{name}_next" for name in self.states), *self.results]

    @property
    def edges(self) -> list[Tensor]:
        """See `choose.upper_edges`."""
        return [self.get_buffer(f"edges{step}") for step in range(self.steps)]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return _Columns(self, dict(zip(self.inputs, tensors, strict=True))).run()


def pixel_weights(network: PixelMiner) -> dict[str, Tensor]:
    """Weights of a loop over pixels that touches all levels, by name."""
    state = PixelGraph(network, LEVELS, "mean").state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith("edges")}


class _Columns:
    """One pass of a `PixelGraph`: columns are generated in turn; each line keeps its history."""

    def __init__(self, graph: PixelGraph, values: dict[str, Tensor]) -> None:
        self.graph, self.weights, self.values = graph, graph.weights, values
        self.layout, self.depth = self.weights.layout, self.weights.depth
        self.lines = {
            line.name: [values[f"{line.name}_before2"], values[f"{line.name}_before1"]]
            for line in self.layout.lines("h", self.depth)
        }
        self.shares = [
            [x.split(self.layout.shares(level), 1) for x in self._columns(f"h_shares{level}")]
            for level in range(self.depth)
        ]
        self.mixture = self._columns("mixture")
        mean, log_scale = values["mixture"][..., -2:].split(1, dim=-1)
        midpoint = mean, log_scale, torch.exp(log_scale), torch.exp(-log_scale)
        self.midpoint = [part.unbind() for part in midpoint]
        self.tails = self._columns("tails")
        read = carries("h", self.depth).read
        self.carry = self._columns(read[0]) if read else ()
        self.upsampled: list[list[Tensor]] = [[] for _ in range(self.depth)]
        self.carry_next: list[list[Tensor]] = [[] for _ in range(self.depth)]
        self.residuals = [values["previous"]]
        self.pixels: list[Tensor] = []
        self.parameters: list[Tensor] = []

    def _columns(self, name: str) -> tuple[Tensor, ...]:
        return self.values[name].unbind()

    def run(self) -> tuple[Tensor, ...]:
        for x in range(COLUMNS):
            entry = self.residuals[-1] * self.weights.get_buffer("input") + self.shares[0][x][0]
            self._choose(x, self._level(0, x, entry))
        states = [self.residuals[-1], *(c for line in self.lines.values() for c in line[-2:])]
        rows = [self.pixels, self.residuals[1:], self.parameters]
        rows += [line[2:] for line in self.lines.values()]
        rows += self.carry_next[: self.depth - 1]
        return (*states, *(torch.cat(columns).unflatten(0, (len(columns), -1)) for columns in rows))

    def _level(self, level: int, x: int, entry: Tensor) -> Tensor:
        """Compute one column of a level and, if it is due, of the levels below."""
        n = self.layout.hyperparameters.blocks
        skips = [entry]
        for layer in range(n):
            skips.append(self._layer(level, layer, x, skips[-1], None))
        if level < LEVELS - 1:
            self.lines[f"h{level}_strided"].append(skips[-1])
        h = self._below(level, x) if level < LEVELS - 1 else skips.pop()
        for layer in range(n, self.layout.gated(level)):
            h = self._layer(level, layer, x, h, skips.pop())
        return h

    def _below(self, level: int, x: int) -> Tensor:
        """Features of this column from the level below, which advances on every second column."""
        if level == self.depth - 1:
            return self.carry[x]
        if x % 2 == 0:
            columns = torch.cat(self.lines[f"h{level}_strided"][-3:], dim=1)
            share = self.shares[level + 1][x // 2][0]
            matrix = self.weights.get_buffer(f"strided{level}")
            below = self._level(level + 1, x // 2, ops.add_product(share, columns, matrix))
            matrix, bias = self.weights.upsample(level)
            four = ops.add_product(bias.repeat(4), below, matrix).chunk(4, dim=1)
            self.upsampled[level] += four[:2]
            self.carry_next[level] += four[2:]
        return self.upsampled[level][x]

    def _layer(self, level: int, index: int, x: int, h: Tensor, skip: Tensor | None) -> Tensor:
        layer, name = self.weights.layer(level, index), f"h{level}_{index}"
        shares = self.shares[level][x][1 + 2 * index :]
        columns = self._append(f"{name}_first", ops.concat_elu_small(h))
        if skip is not None:
            columns.append(ops.concat_elu_small(skip))
        hidden = ops.add_product(shares[0], torch.cat(columns, dim=1), layer.get_buffer("first"))
        columns = self._append(f"{name}_second", ops.concat_elu_small(hidden))
        outputs = ops.add_product(shares[1], torch.cat(columns, dim=1), layer.get_buffer("second"))
        return ops.gate(h, outputs)

    def _append(self, line: str, column: Tensor) -> list[Tensor]:
        """Append a column to a line and return the line's last three columns."""
        self.lines[line].append(column)
        return self.lines[line][-3:]

    def _choose(self, x: int, h: Tensor) -> None:
        hp, output = self.graph.hyperparameters, self.graph.output
        k, outer = hp.mixtures, hp.outer_mixtures
        parameters = ops.add_product(
            output.get_buffer("bias"), F.elu(h), output.get_buffer("matrix")
        )
        logits, means, log_scales = parameters.split(k, dim=1)
        outer_logits, outer_means, outer_inverse, _ = self.mixture[x].split(
            [outer, outer, outer, 2], dim=1
        )
        mean, log_scale, scale, inverse_scale = (part[x] for part in self.midpoint)
        means = mean + scale * means.clamp(-COMPONENT_MAX, COMPONENT_MAX)
        log_scales = log_scale + log_scales.clamp(max=COMPONENT_LOG_SCALE_MAX)
        log_scales = log_scales.clamp(min=LOG_SCALE_MIN)
        components = choose.Components(
            torch.softmax(torch.cat((logits, outer_logits), dim=1), dim=1),
            torch.cat((means, outer_means), dim=1),
            torch.cat((torch.exp(-log_scales), outer_inverse), dim=1),
        )
        if self.graph.chooser == "mean":
            level = choose.mean(components, hp.bits)
        else:
            level = choose.quantile(components, self.tails[x], self.graph.edges)
        pixel = level * (2.0 / (hp.levels - 1)) - 1
        self.pixels.append(pixel)
        residual = (pixel - mean) * inverse_scale
        self.residuals.append(residual.clamp(-RESIDUAL_MAX, RESIDUAL_MAX))
        self.parameters.append(torch.cat((logits, means, log_scales), dim=1))
