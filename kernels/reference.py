"""The pixel loop in NumPy, layer by layer: the reference for the kernel `pixel_row`.

`pmtool.graphs.pixel` does the same in PyTorch. The references for the other kernels are
`pmtool.interface.host`, `pmtool.pixels.uniforms` and `pmtool.pixels.mixture`, which are older than
the kernels.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from pmtool.arrays import Float32s
from pmtool.choices import Mode, Precision
from pmtool.interface.graph_names import kind_and_depth
from pmtool.interface.layout import Layout
from pmtool.kernels.packing import FORMATS, Weights
from pmtool.models.hyperparameters import (
    COMPONENT_LOG_SCALE_MAX,
    COMPONENT_MAX,
    LEVELS,
    LOG_SCALE_MIN,
    RESIDUAL_MAX,
    Hyperparameters,
)
from pmtool.pixels import mixture
from pmtool.pixels.levels import to_pixels
from pmtool.pixels.mixture import Real

Arrays = dict[str, Float32s]


def pixel_row(
    hyperparameters: Hyperparameters,
    weights: Weights,
    graph: str,
    arrays: Arrays,
    precision: Precision = "float32",
) -> None:
    """Generate a row like `pmtool.kernels.launch.CudaPixelRow`, from weights before packing."""
    _PixelRow(hyperparameters, weights, graph, arrays, precision).run()


def rounded(x: Real, precision: Precision) -> Real:
    """Round numbers to a precision, and return them in float32."""
    converted = FORMATS[precision].rounded(np.asarray(x, np.float32))
    if precision == "bfloat16":
        return (converted.astype(np.uint32) << 16).view(np.float32)
    return converted.astype(np.float32)


class _PixelRow:
    """One row, generated column by column; each line keeps its columns."""

    def __init__(
        self,
        hyperparameters: Hyperparameters,
        weights: Weights,
        graph: str,
        arrays: Arrays,
        precision: Precision,
    ) -> None:
        self.hyperparameters, self.weights, self.precision = hyperparameters, weights, precision
        self.layout = Layout(hyperparameters)
        self.chooser, self.depth = kind_and_depth(graph)
        self.arrays = arrays
        lines = [line.name for line in self.layout.lines("h", self.depth)]
        self.lines: dict[str, list[Real]] = {
            name: [arrays[f"{name}_before2"], arrays[f"{name}_before1"]] for name in lines
        }
        self.carries: list[list[Real]] = [[] for _ in range(LEVELS - 1)]
        self.pending: dict[int, Real] = {}
        self.previous: Real = arrays["previous"]

    def run(self) -> None:
        for x in range(len(self._columns("tails"))):
            entry = self.previous * self.weights["weights.input"] + self._share(0, x, 0)
            self._choose(x, self._level(0, x, entry))
        for name, columns in self.lines.items():
            self._write(f"{name}_last", columns[2:])
        for level in range(self.depth - 1):
            self._write(f"h{level}_carry_next", self.carries[level])

    def _product(self, columns: list[Real], weight: str) -> Real:
        """Multiply columns, concatenated by channel, by a matrix; both are rounded first."""
        inputs = rounded(np.concatenate(columns, axis=1), self.precision)
        return np.asarray(inputs @ rounded(self.weights[weight], self.precision))

    def _columns(self, name: str) -> Real:
        """Columns of an array without the groups of four, ``(columns, M, channels)``."""
        array = self.arrays[name]
        return array.reshape(-1, *array.shape[2:])

    def _write(self, name: str, columns: list[Real]) -> None:
        self._columns(name)[:] = columns

    def _share(self, level: int, x: int, part: int) -> Real:
        sizes = self.layout.shares(level)
        start = sum(sizes[:part])
        return self._columns(f"h_shares{level}")[x, :, start : start + sizes[part]]

    def _level(self, level: int, x: int, entry: Real) -> Real:
        n, skips = self.hyperparameters.blocks, [entry]
        for layer in range(n):
            skips.append(self._layer(level, layer, x, skips[-1]))
        if level < LEVELS - 1:
            self.lines[f"h{level}_strided"].append(skips[-1])
            h = self._from_below(level, x)
        else:
            h = skips.pop()
        for layer in range(n, self.layout.gated(level)):
            h = self._layer(level, layer, x, h, skips.pop())
        return h

    def _from_below(self, level: int, x: int) -> Real:
        if level == self.depth - 1:
            return cast(Real, self._columns(f"h{level}_carry")[x])
        if x % 2:
            return self.pending[level]
        columns = self._product(self.lines[f"h{level}_strided"][-3:], f"weights.strided{level}")
        below = self._level(level + 1, x // 2, self._share(level + 1, x // 2, 0) + columns)
        both_rows = self._product([below], f"weights.upsample{level}")
        bias = self.weights[f"weights.upsample_bias{level}"]
        four = [part + bias for part in np.split(both_rows, 4, axis=1)]
        self.pending[level] = four[1]
        self.carries[level] += four[2:]
        return four[0]

    def _layer(self, level: int, index: int, x: int, h: Real, skip: Real | None = None) -> Real:
        name, line = f"weights.layers.{level}.{index}", f"h{level}_{index}"
        columns = self._append(f"{line}_first", _concat_elu(h))
        if skip is not None:
            columns = [*columns, _concat_elu(skip)]
        hidden = self._share(level, x, 1 + 2 * index) + self._product(columns, f"{name}.first")
        columns = self._append(f"{line}_second", _concat_elu(hidden))
        outputs = self._share(level, x, 2 + 2 * index) + self._product(columns, f"{name}.second")
        value, gate = np.split(outputs, 2, axis=1)
        return np.asarray(h + value / (1 + np.exp(-gate)))

    def _append(self, line: str, column: Real) -> list[Real]:
        self.lines[line].append(column)
        return self.lines[line][-3:]

    def _choose(self, x: int, h: Real) -> None:
        hp, outer = self.hyperparameters, self._columns("mixture")[x]
        mean, log_scale = outer[:, -2:-1], outer[:, -1:]
        parameters = self._product([_elu(h)], "output.matrix") + self.weights["output.bias"]
        logits, means, log_scales = np.split(parameters, 3, axis=1)
        means = mean + np.exp(log_scale) * means.clip(-COMPONENT_MAX, COMPONENT_MAX)
        log_scales = log_scale + np.minimum(log_scales, COMPONENT_LOG_SCALE_MAX)
        log_scales = np.maximum(log_scales, LOG_SCALE_MIN)
        outer_logits, outer_means, inverse = np.split(outer[:, :-2], 3, axis=1)
        parts = (logits, outer_logits), (means, outer_means), (log_scales, -np.log(inverse))
        whole = mixture.Mixture(*(np.concatenate(part, axis=1) for part in parts))
        t = self._columns("tails")[x, :, 0]
        u = np.where(t < 0, t + 1, t)
        mode: Mode = "mean" if self.chooser == "mean" else "sample"
        pixels = to_pixels(mixture.choose(whole, u, hp.bits, mode), hp.bits)[:, None]
        self.previous = _residual(pixels, mean, log_scale)
        self._columns("pixels")[x] = pixels
        self._columns("residuals")[x] = self.previous
        if "parameters" in self.arrays:
            self._columns("parameters")[x] = np.concatenate((logits, means, log_scales), axis=1)


def _residual(pixels: Real, mean: Real, log_scale: Real) -> Real:
    residuals = (pixels - mean) * np.exp(-log_scale)
    return np.asarray(residuals.clip(-RESIDUAL_MAX, RESIDUAL_MAX))


def _elu(x: Real) -> Real:
    return np.asarray(np.where(x > 0, x, np.expm1(np.minimum(x, 0))))


def _concat_elu(x: Real) -> Real:
    return np.concatenate((_elu(x), _elu(-x)), axis=1)
