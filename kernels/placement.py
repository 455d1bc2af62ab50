"""Placing the most used parts of a thread block's data in shared memory."""

from __future__ import annotations

from typing import NamedTuple

from pmtool.errors import UsageError
from pmtool.interface.layout import Layout
from pmtool.kernels.packing import FORMATS, GROUP, Packed
from pmtool.models.hyperparameters import LEVELS

LINE_COLUMNS = 3
ALIGNMENT = 16
CHANNELS_OF_LARGE_TILES = 128
"""Largest number of channels for tiles of 16 lanes: more channels need so many threads that 16
lanes do not fit into their registers."""


class Place(NamedTuple):
    """An offset into shared memory, or into the block's workspace in global memory."""

    shared: bool
    offset: int


class Placement(NamedTuple):
    """Places of the levels' lines and weights for a block; offsets are in bytes.

    Attributes
    ----------
    tile
        Number of lanes of a block.
    shared_bytes, workspace_bytes
        Bytes of shared memory and of workspace that a block needs.
    states, weights
        Places of the lines and of the weights by level; weights that are not in shared memory are
        read from global memory.
    """

    tile: int
    shared_bytes: int
    workspace_bytes: int
    states: list[Place]
    weights: list[Place]


def place(packed: Packed, depth: int, tile: int, limit: int) -> Placement:
    """Fill up to ``limit`` bytes of shared memory with what is used most often.

    Level 0 comes first, because it advances with every column. Lines come before weights: per
    column, weights in the L2 cache are read once, lines up to three times.

    Raises
    ------
    UsageError
        If the limit is too small even for the scratch memory, which must be in shared memory.
    """
    used = _aligned(scratch_bytes(packed, tile))
    if used > limit:
        raise UsageError(
            f"the CUDA kernels need {used} bytes of shared memory and the GPU has {limit}: "
            "use another --backend"
        )
    workspace = 0
    states, weights = ([Place(False, 0)] * LEVELS for _ in range(2))
    for level in range(depth):
        size = _aligned(state_bytes(packed, level, tile))
        if used + size <= limit:
            states[level], used = Place(True, used), used + size
        else:
            states[level], workspace = Place(False, workspace), workspace + size
        if used + packed.sizes[level] <= limit:
            weights[level], used = Place(True, used), used + _aligned(packed.sizes[level])
    return Placement(tile, used, workspace, states, weights)


def tile_lanes(packed: Packed, lanes: int, multiprocessors: int, limit: int) -> int:
    """Number of lanes of a block, 8 or 16.

    Few lanes mean many blocks; many lanes are better if each block reads its weights from the L2
    cache. This has not yet been measured on a GPU.
    """
    if packed.hyperparameters.channels > CHANNELS_OF_LARGE_TILES:
        return 8
    streams = not place(packed, 1, 8, limit).weights[0].shared
    blocks = -(-lanes // 8)
    return 16 if blocks > (multiprocessors // 2 if streams else multiprocessors) else 8


def threads(packed: Packed) -> int:
    """Number of threads of a block: a warp for every group of channels, and at least four warps."""
    return 32 * max(4, packed.groups)


def scratch_bytes(packed: Packed, tile: int) -> int:
    """Bytes of scratch memory, which comes first in shared memory.

    It holds an operand, the output's parameters, the components and the last residuals.
    """
    number_format, hp = FORMATS[packed.precision], packed.hyperparameters
    components = hp.mixtures + hp.outer_mixtures
    operand = number_format.bytes * (GROUP * packed.groups + number_format.pad)
    parameters = -(-3 * hp.mixtures // GROUP) * GROUP
    return tile * (operand + 4 * (parameters + 4 * components + 1))


def state_bytes(packed: Packed, level: int, tile: int) -> int:
    """Bytes of three columns of every line of a level, and of a skip."""
    number_format = FORMATS[packed.precision]
    plain = GROUP * packed.groups + number_format.pad
    concat = 2 * GROUP * packed.groups + number_format.pad
    row = LINE_COLUMNS * 2 * Layout(packed.hyperparameters).gated(level) * concat
    if level < LEVELS - 1:
        row += LINE_COLUMNS * plain + concat
    return number_format.bytes * tile * row


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
