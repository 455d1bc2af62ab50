"""A bundle's weights for the pixel loop, without PyTorch."""

from __future__ import annotations

from math import prod

import numpy as np

from pmtool.errors import ModelError
from pmtool.interface.layout import Layout
from pmtool.kernels.packing import Weights
from pmtool.models.bundle import PIXELS, Bundle, tensor_places
from pmtool.models.hyperparameters import LEVELS, Hyperparameters

_FLOAT_BYTES = 4


def bundle_weights(bundle: Bundle) -> Weights:
    """Return the weights that `pmtool.kernels.packing.pack` needs.

    Raises
    ------
    ModelError
        If the bundle lacks some weights, or some do not match the network in its manifest.
    """
    places, content = tensor_places(bundle.weights), bundle.weights.read_bytes()
    weights = {}
    for name, shape in weight_shapes(bundle.hyperparameters).items():
        offset, length = places.get(PIXELS + name, (0, 0))
        if length != _FLOAT_BYTES * prod(shape):
            raise ModelError(
                f"{bundle.weights} does not hold the network's weights: export the model again"
            )
        weights[name] = np.frombuffer(content, np.float32, prod(shape), offset).reshape(shape)
    return weights


def weight_shapes(hyperparameters: Hyperparameters) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights by name; a product takes three columns side by side."""
    c, n, k = hyperparameters.channels, hyperparameters.blocks, 3 * hyperparameters.mixtures
    shapes: dict[str, tuple[int, ...]] = {
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
