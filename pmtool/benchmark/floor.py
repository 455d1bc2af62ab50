"""The floor of the cached sampler: the least time for the computation and data it has to handle.

The floor counts the multiplications of every convolution as the graphs carry them out, and the
bytes of the sampler's buffers that the graphs read or write. It is a lower bound: activations, the
choice of the pixels, the encoder's margin and the driver are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import NamedTuple

from pmtool.interface.layout import Layout
from pmtool.models.hyperparameters import LEVELS, Hyperparameters
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
    c, n, work = hyperparameters.channels, hyperparameters.blocks, Work()
    for level in range(LEVELS):
        for stack in "vh":
            share = 0.25**level
            for layer in range(Layout(hyperparameters).gated(level)):
                down = layer >= n
                _block(work, stack, 2 * c, c, share)
                _block(work, stack, 2 * c, 2 * c, share)
                _shortcut(work, stack, c, down, share)
            if level:
                _block(work, stack, c, c, share, stride=2)
                _upsample(work, stack, c, share)
    _input(work, c)
    _encoder(work, hyperparameters.encoder)
    work.window += hyperparameters.encoder * 2 * c  # its features enter both stacks
    work.known = work.pixel
    work.window += 2 * c * 3 * hyperparameters.mixtures
    work.pixel += c * 3 * hyperparameters.mixtures
    return work


def _input(work: Work, c: int) -> None:
    """Add the work of the input blocks, which have a channel of pixels and one of ones."""
    for taps in (2 * 3, 1 * 3, 2 * 1):
        work.window += 2 * 9 * 2 * c + 2 * taps * 2 * c + taps * 2 * c * c
    work.row += (15 + 5 + 2) * c
    work.pixel += c


def _encoder(work: Work, e: int) -> None:
    """Add the work of the encoder.

    It has pairs of 3x3 convolutions going down and up, transposed convolutions and the output.
    """
    widths = [e, 2 * e, 4 * e]
    for level, (c, c_in) in enumerate(zip(widths, [3, *widths], strict=False)):
        work.window += 0.25**level * 9 * (c_in * c + c * c)
    for level, (c, coarse) in enumerate(pairwise(widths)):
        work.window += 0.25**level * (coarse * c + 9 * (2 * c * c + c * c))
    work.window += 2 * e


def _block(work: Work, stack: str, c_in: int, c_out: int, share: float, stride: int = 1) -> None:
    """Add the work of a block.

    In the window graph, this is the outer 3x3 convolution on two slices, pair and merge; in the
    other graphs, the target's own composed kernel. Pair runs at the input's resolution, everything
    else at the output's.
    """
    taps = TAPS[stack]
    pair = 2 * taps * c_in * c_out * stride**2
    work.window += share * (2 * 9 * c_in * c_out + pair + taps * 2 * c_out * c_out)
    if stack == "v":
        work.row += share * COMPOSED * c_in * c_out
    else:
        work.row += share * EARLIER_ROWS * c_in * c_out
        work.pixel += share * CURRENT_ROW * c_in * c_out


def _shortcut(work: Work, stack: str, c: int, down: bool, share: float) -> None:
    """Add the work of a gated layer's shortcuts: 1x1 convolutions of ``2 c`` channels each."""
    one = share * 2 * c * c
    sources = down + (stack == "h")  # the up pass and the vertical stack
    work.window += 2 * one * sources
    work.row += one * (down if stack == "v" else 1)
    work.pixel += one * (down and stack == "h")


def _upsample(work: Work, stack: str, c: int, share: float) -> None:
    """Add the work of the transposed convolution that upsamples a level: two slices and target."""
    once = share * TAPS[stack] * c * c
    work.window += 2 * once
    if stack == "v":
        work.row += once
    else:
        work.pixel += once


def bytes_moved(layout: Layout) -> Work:
    """Bytes of the buffers that each graph reads or writes, per pixel."""
    shares = sum(sum(layout.shares(level)) * 0.25**level for level in range(LEVELS))
    vertical = sum(line.channels * 0.25**line.level for line in layout.lines("v"))
    horizontal = sum(line.channels * 0.25**line.level for line in layout.lines("h"))
    row = 2 * shares + shares + 4 * vertical + 3 * horizontal  # planes, h_shares, caches
    known = shares + horizontal
    pixel = known + layout.mixture + 3 * layout.hyperparameters.mixtures
    return Work(*(FLOAT_BYTES * x for x in (layout.floats_per_pixel, row, pixel, known)))
