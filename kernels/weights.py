"""A bundle's weights for pmtool's own loops, without PyTorch."""

from __future__ import annotations

from math import prod

import numpy as np

from pmtool.interface.layout import Layout
from pmtool.kernels.packing import Weights
from pmtool.models.bundle import PIXELS, ROWS, Bundle, tensor_places
from pmtool.models.hyperparameters import LEVELS, Hyperparameters

Shapes = dict[str, tuple[int, ...]]
"""Shapes of weights by name."""
_FLOAT_BYTES = 4


def pixel_weights(bundle: Bundle) -> Weights:
    """Return the weights of the loops over pixels; raises `ModelError`."""
    return _weights(bundle, PIXELS, pixel_shapes(bundle.hyperparameters))


def row_weights(bundle: Bundle) -> Weights:
    """Return the weights of the loop for the vertical stack; raises `ModelError`."""
    return _weights(bundle, ROWS, row_shapes(bundle.hyperparameters))


def _weights(bundle: Bundle, prefix: str, shapes: Shapes) -> Weights:
    """Return the weights of these names and shapes.

    Raises
    ------
    ModelError
        If the bundle lacks some weights, or some do not match the network in its manifest.
    """
    places, weights = tensor_places(bundle.weights), {}
    for name, shape in shapes.items():
        offset, length = places.get(prefix + name, (0, 0))
        if length != _FLOAT_BYTES * prod(shape):
            raise bundle.other_weights()
        values = np.fromfile(bundle.weights, np.float32, prod(shape), offset=offset)
        weights[name] = values.reshape(shape)
    return weights


def pixel_shapes(hyperparameters: Hyperparameters) -> Shapes:
    """Shapes of `pmtool.graphs.pixel.pixel_weights`; a product takes three columns side by side."""
    c, n, k = hyperparameters.channels, hyperparameters.blocks, 3 * hyperparameters.mixtures
    shapes: Shapes = {
        "weights.input": (1, c),
        "output.matrix": (c, k),
        "output.bias": (k,),
    }
    for level in range(LEVELS):
        for i in range(Layout(hyperparameters).gated(level)):
            skipped = 2 * c if i >= n else 0
            shapes[f"weights.layers.{level}.{i}.first"] = 6 * c + skipped, c
            shapes[f"weights.layers.{level}.{i}.second"] = 6 * c, 2 * c
    for level in range(LEVELS - 1):
        shapes[f"weights.strided{level}"] = 3 * c, c
        shapes[f"weights.upsample{level}"] = c, 4 * c
        shapes[f"weights.upsample_bias{level}"] = (c,)
    return shapes


def row_shapes(hyperparameters: Hyperparameters) -> Shapes:
    """Shapes of `pmtool.graphs.row.row_weights`, whose taps lie side by side."""
    c, n = hyperparameters.channels, hyperparameters.blocks
    shapes: Shapes = {"input_column": (2, c)}
    blocks = {"input_vertical": (3, c), "input_row": (1, c)}
    for level in range(LEVELS):
        for i in range(Layout(hyperparameters).gated(level)):
            v, h = f"vertical.{level}.{i}", f"horizontal.{level}.{i}"
            blocks |= {f"{v}.first": (6 * c, c), f"{v}.second": (6 * c, 2 * c)}
            if i >= n:
                shapes[f"{v}.shortcut"] = 2 * c, c
            shapes[f"{v}.to_horizontal"] = 2 * c, c
            shapes[f"{h}.first.matrix"] = 4 * c, 3 * c
            shapes[f"{h}.second.matrix"] = 4 * c, 6 * c
    for level in range(LEVELS - 1):
        blocks[f"v_strided.{level}"] = 3 * c, c
        shapes[f"h_strided.{level}.matrix"] = 2 * c, 3 * c
        shapes[f"upsample.{level}.matrix"] = c, 6 * c
        shapes[f"upsample.{level}.bias"] = (c,)
    for name, (inputs, outputs) in blocks.items():
        shapes[f"{name}.matrix"] = inputs, 5 * outputs
        if not hyperparameters.encoder:
            shapes |= {f"{name}.{edge}": (inputs, outputs) for edge in ("left", "right")}
    return shapes
