"""Packing the weights of the pixel loop in the order in which threads of `pixel_row` read them.

A product multiplies *operands*, rows of inputs side by side in shared memory, by tiles of 16 inputs
and 16 outputs; see number.cuh, and walk.cuh, which reads the packed weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.choices import Precision
from pmtool.errors import UsageError
from pmtool.interface.layout import Layout
from pmtool.models.hyperparameters import LEVELS, Hyperparameters

Weights = Mapping[str, Float32s]
"""Weights of a loop by name, see `pmtool.kernels.weights`."""

GROUP = 16
CHANNELS_MAX = 256
"""Largest number of channels: a thread block has a warp for every 16 channels, and at most 16
warps."""


class Format(NamedTuple):
    """Format in which operands and weights are stored at a precision; sums are float32.

    Attributes
    ----------
    bytes
        Bytes of a number.
    pad
        Number of padding elements between two rows of operands, ``Number::PAD``.
    rounded
        Function that rounds float32 numbers to this precision; bfloat16 is returned as uint16.
    """

    bytes: int
    pad: int
    rounded: Callable[[Float32s], NDArray[np.generic]]


def to_bfloat16(x: Float32s) -> NDArray[np.uint16]:
    """Upper halves of float32 numbers, rounded to nearest, ties to even; not for NaN."""
    words = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return np.asarray((words + 0x7FFF + (words >> 16 & 1)) >> 16, np.uint16)


FORMATS: dict[Precision, Format] = {
    "float32": Format(4, 4, lambda x: x.astype(np.float32)),
    "float16": Format(2, 16, lambda x: x.astype(np.float16)),
    "bfloat16": Format(2, 16, to_bfloat16),
}


class Packed(NamedTuple):
    """A model's weights for `pixel_row`.

    Attributes
    ----------
    hyperparameters, precision
        Hyper-parameters of the network, and precision of the matrices.
    matrices
        Matrices of all levels, one after the other, as bytes.
    sizes
        Number of bytes of each level.
    vectors
        Weights of the input, then biases of the upsampling into levels 0 and 1, all padded to whole
        groups of 16 channels; then biases of the output.
    """

    hyperparameters: Hyperparameters
    precision: Precision
    matrices: NDArray[np.uint8]
    sizes: list[int]
    vectors: Float32s

    @property
    def groups(self) -> int:
        """Number of groups of 16 channels."""
        return groups_of(self.hyperparameters.channels)


def groups_of(channels: int) -> int:
    """Number of groups of 16 that hold a number of channels."""
    return -(-channels // GROUP)


def pack(weights: Weights, hyperparameters: Hyperparameters, precision: Precision) -> Packed:
    """Pack weights as the kernels read them.

    Raises
    ------
    UsageError
        If the network has too many channels.
    """
    channels = hyperparameters.channels
    if channels > CHANNELS_MAX:
        raise UsageError(
            f"the CUDA kernels take up to {CHANNELS_MAX} channels, not {channels}: "
            "use another --backend"
        )
    levels = [_level(weights, hyperparameters, level, precision) for level in range(LEVELS)]
    biases = [weights[f"weights.upsample_bias{level}"] for level in range(LEVELS - 1)]
    padded = [_padded(x.reshape(1, -1), channels)[0] for x in (weights["weights.input"], *biases)]
    vectors = np.concatenate([*padded, weights["output.bias"]]).astype(np.float32)
    sizes = [level.size for level in levels]
    return Packed(hyperparameters, precision, np.concatenate(levels), sizes, vectors)


def _level(
    weights: Weights, hyperparameters: Hyperparameters, level: int, precision: Precision
) -> NDArray[np.uint8]:
    """Pack all matrices of a level."""
    channels = hyperparameters.channels
    concat, plain = concat_order(channels), plain_order(channels)
    if level:
        strided = weights[f"weights.strided{level - 1}"]
        upsample = weights[f"weights.upsample{level - 1}"]
        parts = [_tiles(strided, plain, channels, precision)]
        parts.append(_tiles(upsample, plain, channels, precision))
    else:
        matrix = weights["output.matrix"]
        parts = [_tiles(matrix, plain, matrix.shape[1], precision)]
    for index in range(Layout(hyperparameters).gated(level)):
        for name in ("first", "second"):
            matrix = weights[f"weights.layers.{level}.{index}.{name}"]
            parts.append(_tiles(matrix, concat, channels, precision))
    return np.concatenate(parts)


def concat_order(channels: int) -> NDArray[np.intp]:
    """Indices of an operand's inputs in a concat-ELU; -1 for padding.

    A thread writes four at once: a channel, its negative, and both for the channel 8 further on.
    """
    group, g, half, sign = np.ogrid[: groups_of(channels), :8, :2, :2]
    channel = GROUP * group + g + 8 * half
    return np.where(channel < channels, sign * channels + channel, -1).ravel()


def plain_order(channels: int) -> NDArray[np.intp]:
    """Indices of an operand's inputs in features; -1 for padding.

    A thread writes two at once: a channel and the one 8 further on.
    """
    group, g, half = np.ogrid[: groups_of(channels), :8, :2]
    channel = GROUP * group + g + 8 * half
    return np.where(channel < channels, channel, -1).ravel()


def _tiles(
    matrix: Float32s, order: NDArray[np.intp], channels: int, precision: Precision
) -> NDArray[np.uint8]:
    """Reorder a matrix ``(columns of a line x inputs, parts x channels)`` in tiles, outputs first.

    The result is bytes.
    """
    inputs = int(order.max()) + 1
    columns = matrix.reshape(-1, inputs, matrix.shape[1])
    columns = np.where((order < 0)[:, None], 0, columns[:, order])
    padded = _padded(columns.reshape(-1, matrix.shape[1]), channels)
    tiles = padded.reshape(len(padded) // GROUP, GROUP, -1, GROUP).transpose(2, 0, 1, 3)
    ordered = _by_threads(np.ascontiguousarray(tiles), FORMATS[precision].bytes)
    return FORMATS[precision].rounded(ordered.ravel()).view(np.uint8)


def _padded(matrix: Float32s, channels: int) -> Float32s:
    """Insert zeros after every ``channels`` columns, up to whole groups."""
    parts = matrix.reshape(len(matrix), -1, channels)
    return np.pad(parts, ((0, 0), (0, 0), (0, -channels % GROUP))).reshape(len(matrix), -1)


def _by_threads(tiles: Float32s, size: int) -> Float32s:
    """Reorder tiles ``(..., 16 inputs, 16 outputs)`` as a warp's threads hold them.

    In 16 bits, thread 4 g + q holds inputs 4 q to 4 q + 3 of outputs g and g + 8 in the order of
    mma.m16n8k16: two inputs of g, two of g + 8, the other two of g, the other two of g + 8.
    In 32 bits, four inputs of an output lie side by side.
    """
    if size == 4:
        return np.moveaxis(tiles.reshape(*tiles.shape[:2], 4, 4, 16), 4, 3)
    split = tiles.reshape(*tiles.shape[:2], 4, 2, 2, 2, 8)  # (..., q, pair, input, half, g)
    return split.transpose(0, 1, 6, 2, 3, 5, 4)
