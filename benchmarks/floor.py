"""What the cached sampler has to compute and to move, and how long that takes at best.

    python benchmarks/floor.py [--peak GFLOPS]

Counts the multiplications of every convolution as the graphs carry them out, for one 512x512
slice. A floor: activations, the choice of the pixels and the driver are left out.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pmtool.hyperparameters import COMPACT, Hyperparameters
from pmtool.layout import LEVELS, Layout
from pmtool.windows import wavefronts

SIZE = 512
NETWORKS = (COMPACT, replace(COMPACT, channels=32), Hyperparameters(channels=16))
WINDOWS = 64, 192, 512
KERNELS = {"v": (2, 3), "h": (2, 2)}
COMPOSED = {"v": 15, "h": 9}
"""Taps of merge after pair: 3x5 and 3x3; a row of the horizontal stack's are the pixel graph's."""
EARLIER_ROWS, CURRENT_ROW = 6, 3
FLOAT_BYTES = 4


@dataclass
class Work:
    """Multiplications and bytes for every pixel of a window, by graph."""

    window: float = 0.0
    row: float = 0.0
    pixel: float = 0.0


def multiplications(hyperparameters: Hyperparameters) -> Work:
    """Of one pass of each graph, for every pixel of the finest level."""
    c, n, work = hyperparameters.channels, hyperparameters.blocks, Work()
    for level in range(LEVELS):
        layers = Layout(hyperparameters).gated(level)
        for stack in "vh":
            share = 0.25**level
            for layer in range(layers):
                down = layer >= n
                _block(work, stack, 2 * c, c, share)
                _block(work, stack, 2 * c, 2 * c, share)
                _shortcut(work, stack, c, down, share)
            if level:
                _block(work, stack, c, c, share, stride=2)
                _upsample(work, stack, c, share)
    for kernel in ((2, 3), (1, 3), (2, 1)):  # the input: one channel and one of ones
        taps = kernel[0] * kernel[1]
        work.window += 2 * 9 * 2 * c + 2 * taps * 2 * c + taps * 2 * c * c
    work.row += (15 + 5 + 2) * c
    _encoder(work, hyperparameters.encoder)
    work.pixel += c
    e = hyperparameters.encoder
    work.window += e * 2 * c  # its features enter both stacks
    work.window += 2 * c * 3 * hyperparameters.mixtures
    work.pixel += c * 3 * hyperparameters.mixtures
    return work


def _encoder(work: Work, e: int) -> None:
    """Pairs of 3x3 convolutions going down and up, transposed convolutions, the output."""
    widths = [e, 2 * e, 4 * e]
    for level, (c, c_in) in enumerate(zip(widths, [2, *widths], strict=False)):
        work.window += 0.25**level * 9 * (c_in * c + c * c)
    for level, (c, coarse) in enumerate(pairwise(widths)):
        work.window += 0.25**level * (coarse * c + 9 * (2 * c * c + c * c))
    work.window += 2 * e


def _block(work: Work, stack: str, c_in: int, c_out: int, share: float, stride: int = 1) -> None:
    """Outer 3x3 convolution on two slices, pair and merge; the target's own composed kernel.

    Pair runs at the resolution of the input, all else at that of the output.
    """
    taps = KERNELS[stack][0] * KERNELS[stack][1]
    pair = 2 * taps * c_in * c_out * stride**2
    work.window += share * (2 * 9 * c_in * c_out + pair + taps * 2 * c_out * c_out)
    if stack == "v":
        work.row += share * COMPOSED["v"] * c_in * c_out
    else:
        work.row += share * EARLIER_ROWS * c_in * c_out
        work.pixel += share * CURRENT_ROW * c_in * c_out


def _shortcut(work: Work, stack: str, c: int, down: bool, share: float) -> None:
    """1x1 convolutions of what a gated layer takes from elsewhere, ``2 c`` channels each."""
    one = share * 2 * c * c
    sources = down + (stack == "h")  # of the up pass, and of the vertical stack
    work.window += 2 * one * sources
    work.row += one * (down if stack == "v" else 1)
    work.pixel += one * (down and stack == "h")


def _upsample(work: Work, stack: str, c: int, share: float) -> None:
    """Transposed convolution from a level, on two slices and on the target."""
    taps = KERNELS[stack][0] * KERNELS[stack][1]
    work.window += share * 2 * taps * c * c
    if stack == "v":
        work.row += share * taps * c * c
    else:
        work.pixel += share * taps * c * c


def bytes_moved(layout: Layout) -> Work:
    """Bytes that each graph reads or writes of the buffers, for every pixel."""
    shares = sum(sum(layout.shares(level)) * 0.25**level for level in range(LEVELS))
    vertical = sum(line.channels * 0.25**line.level for line in layout.lines("v"))
    horizontal = sum(line.channels * 0.25**line.level for line in layout.lines("h"))
    row = 2 * shares + shares + 4 * vertical + 3 * horizontal  # planes, h_shares, caches
    pixel = shares + layout.mixture + horizontal + 3 * layout.hyperparameters.mixtures
    floats = layout.floats_per_pixel, row, pixel
    return Work(*(FLOAT_BYTES * x for x in floats))


def window_pixels(window: int) -> int:
    """Pixels of all windows of a slice."""
    fronts = wavefronts((SIZE, SIZE), (window, window))
    return sum(w.height * w.width for front in fronts for w in front)


def gemm_peak() -> float:
    """Operations a second of NumPy's float32 matrix product, the best of six."""
    a = np.random.default_rng(0).random((1536, 1536), np.float32)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * len(a) ** 3 / min(seconds)


def table(peak: float) -> str:
    """In Markdown; gigaoperations count a multiplication and an addition as two."""
    lines = [
        "| channels | encoder | window | pixels / slice | window, GOP | row, GOP | pixel, GOP | "
        "moved, GB | floor, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for hyperparameters in NETWORKS:
        work, moved = multiplications(hyperparameters), bytes_moved(Layout(hyperparameters))
        for window in WINDOWS:
            pixels = window_pixels(window)
            parts = [2e-9 * pixels * x for x in (work.window, work.row, work.pixel)]
            total = 1e-9 * pixels * (moved.window + moved.row + moved.pixel)
            cells = [
                str(hyperparameters.channels),
                str(hyperparameters.encoder),
                str(window),
                f"{pixels / SIZE**2:.2f}",
            ]
            cells += [
                *(f"{x:.1f}" for x in parts),
                f"{total:.1f}",
                f"{sum(parts) * 1e9 / peak:.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", type=float, help="of a GEMM, GFLOPS; measured if not given")
    asked = parser.parse_args().peak
    peak = 1e9 * asked if asked else gemm_peak()
    print(f"GEMM peak {peak / 1e9:.0f} GFLOPS\n\n{table(peak)}")


if __name__ == "__main__":
    main()
