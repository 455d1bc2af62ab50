"""Measure what the cached sampler does on the host, with an engine and a device that do nothing.

    python benchmarks/host_time.py [--pairs 20] [--size 512] [--window 64]

What remains is NumPy and Python: preparing slices and batches, and calling the engine for every
row. On a GPU this time is lost wherever the engine does not keep the device busy.
"""

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np

from pmtool.choices import Precision
from pmtool.interface.host import HostMemory
from pmtool.interface.protocol import Arrays
from pmtool.models.bundle import Bundle
from pmtool.sampling.lane_cache import LaneCache
from pmtool.sampling.pairs import PairGroup, SlicePair
from pmtool.sampling.windows import alike_windows

_NOTHING: Any = staticmethod(lambda *_: None)


class IdleMemory(HostMemory):
    """Copies to and from the device are real; what happens on the device is left out."""

    clear = copy = tails = _NOTHING
    load_windows = load_pixels = store_pixels = load_row = standardise = _NOTHING


class IdleProgram:
    """A program that does nothing."""

    def run(self) -> None:
        """Do nothing."""


class IdleBackend:
    """An engine that does nothing."""

    name, device, memory = "idle", "cpu", IdleMemory()
    precision: Precision = "float32"
    windows_per_call, keeps_programs = 64, True

    def bind(self, graph: str, arrays: Arrays) -> IdleProgram:
        """Bind nothing."""
        return IdleProgram()


def host_seconds(pairs: int, size: int, window: int) -> float:
    """CPU time for ``pairs`` slice pairs of ``size`` pixels squared."""
    hyperparameters, rng = Bundle.load().hyperparameters, np.random.default_rng(0)
    slices = rng.integers(-1000, 400, (pairs, 2, size, size)).astype(np.int16)
    given = [SlicePair(above, below, 1.0, i) for i, (above, below) in enumerate(slices)]
    shape, backend = (size, size), IdleBackend()
    batches = [
        [(pair, place) for place in windows for pair in range(pairs)]
        for windows in alike_windows(shape, (window, window))
    ]
    cache = LaneCache(backend, hyperparameters, (window, window), max(map(len, batches)))
    cache.generate(
        PairGroup(hyperparameters, given, shape, backend.memory), batches[0], 0, "sample"
    )
    start = time.process_time()
    group = PairGroup(hyperparameters, given, shape, backend.memory)
    for batch in batches:
        cache.generate(group, batch, 0, "sample")
    group.slices()
    return time.process_time() - start


@click.command()
@click.option("--pairs", default=20, show_default=True, help="Number of slice pairs.")
@click.option("--size", default=512, show_default=True, help="Height and width of a slice.")
@click.option("--window", default=64, show_default=True, help="Height and width of a window.")
def main(pairs: int, size: int, window: int) -> None:
    """Print the host's CPU time for slice pairs."""
    seconds = host_seconds(pairs, size, window)
    click.echo(f"{seconds:.2f} s for {pairs} pairs, {1000 * seconds / pairs:.1f} ms a pair")


if __name__ == "__main__":
    main()
