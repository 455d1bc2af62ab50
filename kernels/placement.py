"""Which parts of a thread block's memory lie in shared memory: what is used most often."""

from __future__ import annotations

from typing import NamedTuple

from pmtool.errors import UsageError
from pmtool.interface.layout import LEVELS, Layout
from pmtool.kernels.packing import FORMATS, GROUP, Packed

LINE_COLUMNS = 3
ALIGNMENT = 16
CHANNELS_OF_LARGE_TILES = 128
"""More take so many threads that 16 lanes do not fit into their registers."""


class Place(NamedTuple):
    """An offset into shared memory, or into the block's workspace in global memory."""

    shared: bool
    offset: int


class Placement(NamedTuple):
    """Where a block finds the levels' lines and weights; offsets are in bytes.

    Attributes
    ----------
    tile
        Lanes of a block.
    shared_bytes, workspace_bytes
        Bytes that a block needs.
    states, weights
        Places by level; weights that are not in shared memory are read where they are.
    """

    tile: int
    shared_bytes: int
    workspace_bytes: int
    states: list[Place]
    weights: list[Place]


def place(packed: Packed, depth: int, tile: int, limit: int) -> Placement:
    """Fill up to ``limit`` bytes of shared memory with what is used most often.

    Level 0 comes first, as it advances on every column, lines before weights: weights in the L2
    cache are read once a column, lines up to three times.

    Raises
    ------
    UsageError
        If the limit is too small even for what has to be there.
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
    """Lanes of a block: few for many blocks, many where each reads its weights from the L2 cache.

    Not yet measured on a GPU.
    """
    if packed.hyperparameters.channels > CHANNELS_OF_LARGE_TILES:
        return 8
    streams = not place(packed, 1, 8, limit).weights[0].shared
    blocks = -(-lanes // 8)
    return 16 if blocks > (multiprocessors // 2 if streams else multiprocessors) else 8


def threads(packed: Packed) -> int:
    """Threads of a block: a warp for every group of channels, and at least four."""
    return 32 * max(4, packed.groups)


def scratch_bytes(packed: Packed, tile: int) -> int:
    """What comes first: an operand, the output's parameters, the components, the last residuals."""
    kept, mixtures = FORMATS[packed.precision], packed.hyperparameters.mixtures
    operand = kept.bytes * (GROUP * packed.groups + kept.pad)
    parameters = -(-3 * mixtures // GROUP) * GROUP
    return tile * (operand + 4 * (parameters + 4 * 3 * mixtures + 1))


def state_bytes(packed: Packed, level: int, tile: int) -> int:
    """Three columns of every line of a level, and a skip."""
    kept = FORMATS[packed.precision]
    plain = GROUP * packed.groups + kept.pad
    concat = 2 * GROUP * packed.groups + kept.pad
    row = LINE_COLUMNS * 2 * Layout(packed.hyperparameters).gated(level) * concat
    if level < LEVELS - 1:
        row += LINE_COLUMNS * plain + concat
    return kept.bytes * tile * row


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
