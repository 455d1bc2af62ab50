"""A bundle's weights for the pixel loop, without PyTorch.

They are the same as in `pmtool.graphs.horizontal`: two consecutive causal convolutions are composed
into one, of which the pixel loop needs the taps of its own row.
"""

from __future__ import annotations

import numpy as np

from pmtool.arrays import Float32s
from pmtool.errors import ModelError
from pmtool.interface.layout import Layout
from pmtool.kernels.packing import Weights
from pmtool.models.bundle import NETWORK, Bundle, tensor_places
from pmtool.models.hyperparameters import LEVELS


def bundle_weights(bundle: Bundle) -> Weights:
    """Return the weights that `pmtool.kernels.packing.pack` needs.

    Raises
    ------
    ModelError
        If the bundle lacks weights of the network that its manifest describes.
    """
    try:
        return _Network(bundle).weights()
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{bundle.weights} does not hold the network's weights: export the model again"
        ) from error


class _Network:
    """A network's weights as they are stored, and the pixel loop's weights made from them."""

    def __init__(self, bundle: Bundle) -> None:
        self.hyperparameters = bundle.hyperparameters
        self.places = tensor_places(bundle.weights)
        self.content = bundle.weights.read_bytes()

    def weights(self) -> dict[str, Float32s]:
        c, n = self.hyperparameters.channels, self.hyperparameters.blocks
        mixtures = self.hyperparameters.mixtures
        found = {
            "weights.input": self._current_row("input_column", 2, c, 1)[
                :1
            ],  # of the residual alone
            "output.matrix": self._array("output.weight", 3 * mixtures, c).T,
            "output.bias": self._array("output.bias", 3 * mixtures),
        }
        for level in range(LEVELS):
            for i in range(Layout(self.hyperparameters).gated(level)):
                half = f"up.{level}.{i}" if i < n else f"down.{LEVELS - 1 - level}.{i - n}"
                layer = self._layer(f"horizontal.{half}", down=i >= n)
                found |= {f"weights.layers.{level}.{i}.{key}": x for key, x in layer.items()}
        for level in range(LEVELS - 1):
            strided = self._current_row(f"horizontal.strided.{level}", c, c)
            upsample = f"horizontal.upsample.{LEVELS - 2 - level}.conv"
            kernel = self._array(f"{upsample}.weight", c, c, 2, 2)
            found[f"weights.strided{level}"] = strided
            found[f"weights.upsample{level}"] = kernel.transpose(0, 2, 3, 1).reshape(c, -1)
            found[f"weights.upsample_bias{level}"] = self._array(f"{upsample}.bias", c)
        return found

    def _layer(self, name: str, *, down: bool) -> dict[str, Float32s]:
        c = self.hyperparameters.channels
        first = self._current_row(f"{name}.first", 2 * c, c)
        if down:  # skipped horizontal ones among both stacks' features and negatives
            shortcut = self._array(f"{name}.shortcut.weight", c, 4, c)
            first = np.concatenate((first, shortcut[:, 1].T, shortcut[:, 3].T))
        return {"first": first, "second": self._current_row(f"{name}.second", 2 * c, 2 * c)}

    def _current_row(self, block: str, inputs: int, out: int, width: int = 2) -> Float32s:
        """Last row of a block's composed kernel for the target, ``(columns x in, out)``."""
        pair = self._array(f"{block}.pair.weight", out, 2, inputs, 2, width)[..., 1, :]
        merge = self._array(f"{block}.merge.weight", out, 2, out, 2, width)[..., 1, :]
        kernel = np.zeros((out, inputs, 2 * width - 1), np.float32)
        for depth in range(2):
            for x in range(width):
                product = np.tensordot(merge[:, depth, :, x], pair[:, 1 - depth], 1)
                kernel[..., x : x + width] += product
        return kernel.transpose(2, 1, 0).reshape(-1, out)

    def _array(self, name: str, *shape: int) -> Float32s:
        offset, length = self.places[NETWORK + name]
        return np.frombuffer(self.content[offset : offset + length], np.float32).reshape(shape)
