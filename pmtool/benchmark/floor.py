"""The floor of the cached sampler: the least time for the computation and data it has to handle.

The floor counts the multiplications of every convolution as the graphs carry them out, and the
bytes of the sampler's buffers that the graphs read or write. It is a lower bound: activations, the
choice of the pixels, the encoder's margin and the driver are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from typing import NamedTuple

from pmtool.interface.layout import Layout
from pmtool.models.hyperparameters import LEVELS, Hyperparameters, encoder_widths
from pmtool.sampling.windows import pixels_of_windows

PARTS = ("window", "row", "pixel")
"""Parts of the work, by graph; the work of the known graph counts towards the row graph's."""
TAPS = {"v": 6, "h": 4}
"""Taps of the causal kernels, 2x3 and 2x2, by stack."""
COMPOSED, EARLIER_ROWS, CURRENT_ROW = 15, 6, 3
"""Taps of the merge convolution composed with the pair convolution: 3x5 in the vertical stack; 3x3
in the horizontal one, whose current row belongs to the pixel graph and the two earlier ones to the
row graph."""
FLOAT_BYTES = 4


@dataclass
class Work:
    """Multiplications or bytes per pixel that a graph runs on, by graph."""

    window: float = 0.0
    row: float = 0.0
    pixel: float = 0.0
    known: float = 0.0


class Load(NamedTuple):
    """Load of one graph: operations (a multiplication and an addition are two) and bytes."""

    operations: float
    bytes: float


def loads(
    hyperparameters: Hyperparameters, shape: tuple[int, int], window: tuple[int, int]
) -> dict[str, Load]:
    """Load of generating one slice, by `PARTS`.

    Parameters
    ----------
    hyperparameters
        Hyper-parameters of the network.
    shape, window
        Height and width of the padded slice and of its windows, see `wavefronts`.
    """
    work, moved = multiplications(hyperparameters), bytes_moved(Layout(hyperparameters))
    total, generated = pixels_of_windows(shape, window), prod(shape)
    operations, traffic = (_by_graph(x, total, generated) for x in (work, moved))
    return {part: Load(2 * operations[part], traffic[part]) for part in PARTS}


def floor(load: Load, operations_per_second: float, bytes_per_second: float) -> float:
    """Least number of seconds for a load; computing and moving data may overlap."""
    return max(load.operations / operations_per_second, load.bytes / bytes_per_second)


def _by_graph(work: Work, total: int, generated: int) -> dict[str, float]:
    rows = total * work.row + (total - generated) * work.known
    return {"window": total * work.window, "row": rows, "pixel": generated * work.pixel}


def multiplications(hyperparameters: Hyperparameters) -> Work:
    """Multiplications in one pass of each graph, per pixel of the finest level."""
    work, encoder = _target(hyperparameters), hyperparameters.encoder
    if encoder:
        work.window = _encoder(encoder) + _shares(Layout(hyperparameters))
    else:
        work.window = _outer_slices(hyperparameters)
    return work


class Piece(NamedTuple):
    """A convolution of a stack at a level.

    Attributes
    ----------
    stack
        ``v`` or ``h``.
    share
        Its outputs per pixel of the finest level.
    c_in, c_out
        Number of input and of output channels.
    stride
        Stride of a block.
    """

    stack: str
    share: float
    c_in: int
    c_out: int
    stride: int = 1


def _blocks(hyperparameters: Hyperparameters) -> Iterator[Piece]:
    """Blocks of the gated layers, and those that lead to the next level."""
    c = hyperparameters.channels
    for stack, level in product("vh", range(LEVELS)):
        share = 0.25**level
        for _ in range(Layout(hyperparameters).gated(level)):
            yield from (Piece(stack, share, 2 * c, c), Piece(stack, share, 2 * c, 2 * c))
        if level:
            yield Piece(stack, share, c, c, stride=2)


def _shortcuts(hyperparameters: Hyperparameters) -> Iterator[tuple[Piece, bool]]:
    """1x1 convolutions of the gated layers, and whether the vertical stack is their input.

    The other ones' is the up pass.
    """
    c, n = hyperparameters.channels, hyperparameters.blocks
    for level in range(LEVELS):
        for layer in range(Layout(hyperparameters).gated(level)):
            for stack in "vh":
                piece = Piece(stack, 0.25**level, 2 * c, c)
                if layer >= n:
                    yield piece, False
                if stack == "h":
                    yield piece, True


def _upsamples(hyperparameters: Hyperparameters) -> Iterator[Piece]:
    """Transposed convolutions from a level to the next finer one, by their inputs."""
    c = hyperparameters.channels
    for stack, level in product("vh", range(1, LEVELS)):
        yield Piece(stack, 0.25**level, c, c)


def _target(hyperparameters: Hyperparameters) -> Work:
    """Return the work of all graphs but the window graph."""
    c, work = hyperparameters.channels, Work()
    for piece in _blocks(hyperparameters):
        once = piece.share * piece.c_in * piece.c_out
        if piece.stack == "v":
            work.row += COMPOSED * once
        else:
            work.row += EARLIER_ROWS * once
            work.pixel += CURRENT_ROW * once
    for piece, vertical in _shortcuts(hyperparameters):
        once = piece.share * piece.c_in * piece.c_out
        if piece.stack == "v" or vertical:
            work.row += once
        else:
            work.pixel += once
    for piece in _upsamples(hyperparameters):
        once = piece.share * TAPS[piece.stack] * piece.c_in * piece.c_out
        if piece.stack == "v":
            work.row += once
        else:
            work.pixel += once
    work.row += (3 * 5 + 1 * 5 + 2 * 1) * c  # the entry: what is above, the row above, and its left
    work.pixel += c
    work.known = work.pixel
    work.pixel += c * 3 * hyperparameters.mixtures
    return work


def _outer_slices(hyperparameters: Hyperparameters) -> float:
    """Return the work of two slices and their mixtures in a network without encoder.

    A block has the outer 3x3 convolution, pair and merge; pair runs at the input's resolution,
    everything else at the output's. The entry has a channel of pixels and one of ones.
    """
    c, work = hyperparameters.channels, 0.0
    for taps in (2 * 3, 1 * 3, 2 * 1):
        work += 2 * 9 * 2 * c + 2 * taps * 2 * c + taps * 2 * c * c
    for piece in _blocks(hyperparameters):
        taps, once = TAPS[piece.stack], piece.share * piece.c_out
        pair = 2 * taps * piece.c_in * piece.stride**2
        work += once * (2 * 9 * piece.c_in + pair + taps * 2 * piece.c_out)
    for piece, _ in _shortcuts(hyperparameters):
        work += 2 * piece.share * piece.c_in * piece.c_out
    for piece in _upsamples(hyperparameters):
        work += 2 * piece.share * TAPS[piece.stack] * piece.c_in * piece.c_out
    return work + 2 * c * 3 * hyperparameters.mixtures


def _encoder(e: int) -> float:
    """Return the work of the encoder.

    It has pairs of 3x3 convolutions going down and up, transposed convolutions, the output, and a
    3x3 convolution of its features and both slices.
    """
    widths = [e << level for level in range(LEVELS)]
    work = float(2 * e + 9 * (e + 2) * encoder_widths(e)[0])
    for level, (c, c_in) in enumerate(zip(widths, [3, *widths], strict=False)):
        work += 0.25**level * 9 * (c_in * c + c * c)
    for level, (c, coarse) in enumerate(pairwise(widths)):
        work += 0.25**level * (coarse * c + 9 * (2 * c * c + c * c))
    return work


def _shares(layout: Layout) -> float:
    """Return the work of the products with the encoder's features, entries and ones."""
    c, widths = layout.hyperparameters.channels, encoder_widths(layout.hyperparameters.encoder)
    work = float((3 * 5 + 1 * 5 + 3 * 1) * 2 * c)  # the blocks of the entry
    for level, width in enumerate(widths):
        inputs = width + 1 + (0 if level else 2 * c)
        work += 0.25**level * inputs * 2 * sum(layout.shares(level))
    return work


def bytes_moved(layout: Layout) -> Work:
    """Bytes of the buffers that each graph reads or writes, per pixel."""
    shares = sum(sum(layout.shares(level)) * 0.25**level for level in range(LEVELS))
    vertical = sum(line.channels * 0.25**line.level for line in layout.lines("v"))
    horizontal = sum(line.channels * 0.25**line.level for line in layout.lines("h"))
    row = 2 * shares + shares + 4 * vertical + 3 * horizontal  # planes, h_shares, caches
    known = shares + horizontal
    pixel = known + layout.mixture + 3 * layout.hyperparameters.mixtures
    return Work(*(FLOAT_BYTES * x for x in (layout.floats_per_pixel, row, pixel, known)))
