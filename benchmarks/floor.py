"""What the cached sampler has to compute and move, and how long that takes at best.

    python benchmarks/floor.py [--peak GFLOPS]

The figures are for one 512x512 slice, from the counts of `pmtool.benchmark.floor`; `pmtool bench`
shows the same counts next to its measurements.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import product
from math import prod

from pmtool.benchmark.floor import PARTS, loads
from pmtool.models.hyperparameters import COMPACT, Hyperparameters
from pmtool.sampling.windows import pixels_of_windows
from pmtool.system.tables import markdown

SHAPE = 512, 512
NETWORKS = (COMPACT, replace(COMPACT, channels=32), Hyperparameters(channels=16))
WINDOWS = 64, 272, 512
COLUMNS = (
    "channels",
    "encoder",
    "window",
    "pixels / slice",
    *(f"{part}, GOP" for part in PARTS),
    "moved, GB",
    "floor, s",
)


def table(peak: float) -> str:
    """Table of the floors in Markdown; a multiplication and an addition count as two operations."""
    return markdown(COLUMNS, [_cells(*chosen, peak) for chosen in product(NETWORKS, WINDOWS)])


def _cells(hyperparameters: Hyperparameters, window: int, peak: float) -> list[str]:
    by_part = loads(hyperparameters, SHAPE, (window, window))
    operations = [by_part[part].operations for part in PARTS]
    return [
        *(str(x) for x in (hyperparameters.channels, hyperparameters.encoder, window)),
        f"{pixels_of_windows(SHAPE, (window, window)) / prod(SHAPE):.2f}",
        *(f"{x / 1e9:.1f}" for x in operations),
        f"{sum(load.bytes for load in by_part.values()) / 1e9:.1f}",
        f"{sum(operations) / peak:.1f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", type=float, help="of a GEMM, GFLOPS; measured if not given")
    peak = parser.parse_args().peak
    if peak is None:
        from pmtool.benchmark.peaks import gemm_peak

        peak = gemm_peak() / 1e9
    print(f"GEMM peak {peak:.0f} GFLOPS\n\n{table(1e9 * peak)}")


if __name__ == "__main__":
    main()
