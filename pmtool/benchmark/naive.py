"""Measuring the cost of a forward pass of the whole network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from pmtool.arrays import Float32s
from pmtool.backends.torch_threads import torch_threads
from pmtool.benchmark.timing import repeat
from pmtool.network import PixelMiner
from pmtool.network.inference import ArrayNetwork, full_float32
from pmtool.pixels.mixture import Mixture
from pmtool.sampling.pairs import Neighbours

WINDOW = 64
BATCHES = {"cpu": (1, 8), "cuda": (1, 8, 64)}
"""Batch sizes to try, in windows, by kind of device; the fastest counts."""


class PlainNetwork(ArrayNetwork):
    """The network in float32, on every device."""

    def __call__(self, neighbours: Neighbours, target: Float32s) -> Mixture:
        """See `ArrayNetwork`."""
        with full_float32():
            return super().__call__(neighbours, target)


class TimedNetwork(PlainNetwork):
    """The naive sampler's network, which records the seconds of every pass.

    Parameters
    ----------
    network
        The network.
    tell
        Called with the number of passes so far.
    """

    def __init__(self, network: PixelMiner, tell: Callable[[int], None]) -> None:
        super().__init__(network)
        self.seconds: list[float] = []
        self.tell = tell

    def __call__(self, neighbours: Neighbours, target: Float32s) -> Mixture:
        """See `ArrayNetwork`."""
        start = time.perf_counter()
        mixture = super().__call__(neighbours, target)
        self.seconds.append(time.perf_counter() - start)
        self.tell(len(self.seconds))
        return mixture

    def cost(self) -> PassCost:
        """Cost of the passes so far."""
        seconds = statistics.median(self.seconds)
        return PassCost(torch.get_num_threads(), 1, seconds, len(self.seconds))


class PassCost(NamedTuple):
    """Cost of a forward pass.

    Attributes
    ----------
    threads
        Number of threads.
    batch
        Number of windows in a pass.
    seconds
        Median seconds of a pass per window.
    passes
        Number of measured passes; each window of a batch counts as one.
    at_once
        Number of passes that run at the same time (those of different slices, for example), each on
        its own threads; the time they take together is divided among them.
    """

    threads: int
    batch: int
    seconds: float
    passes: int
    at_once: int = 1


def pass_costs(network: PixelMiner, threads: int, slices: int) -> list[PassCost]:
    """Measure passes on one thread and on all, one by one and in batches.

    One thread is faster on a machine that others use too, because threads that wait for each other
    then lose more than they gain. Trying both keeps the naive sampler from looking slower than it
    is. It may also work on as many of its ``slices`` at once as there are threads. On a GPU, the
    number of threads does not matter.
    """
    kind = network.device.type
    counts = sorted({1, threads}) if kind == "cpu" else [threads]
    costs = [_pass_cost(network, count, batch) for count in counts for batch in BATCHES[kind]]
    at_once = min(threads, slices)
    if kind == "cpu" and at_once > 1:
        costs.append(_cost_at_once(network, at_once))
    return costs


def threads_for_one(costs: Iterable[PassCost]) -> int:
    """Number of threads on which a pass of one window is fastest, with no other beside it."""
    return min(costs, key=lambda cost: (cost.batch, cost.at_once, cost.seconds)).threads


def _pass_cost(network: PixelMiner, threads: int, batch: int) -> PassCost:
    inputs = _inputs(network, batch)
    with torch.inference_mode(), torch_threads(threads), full_float32():
        network(*inputs)
        seconds = repeat(lambda: network(*inputs), str(network.device))
    return PassCost(threads, batch, statistics.median(seconds) / batch, batch * len(seconds))


def _cost_at_once(network: PixelMiner, count: int) -> PassCost:
    """Cost of passes on one thread each, ``count`` of them at once."""
    inputs = _inputs(network, 1)

    @torch.inference_mode()
    def one(number: int) -> None:
        network(*inputs)

    with torch_threads(1), ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))
        seconds = repeat(lambda: list(pool.map(one, range(count))))
    return PassCost(1, 1, statistics.median(seconds) / count, count * len(seconds), count)


def _inputs(network: PixelMiner, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random windows, neighbours with the encoder's margin, and a thickness for the network."""
    outer = WINDOW + 2 * network.hyperparameters.margin
    with network.device:
        above, below = torch.rand(2, batch, 1, outer, outer) * 2 - 1
        target = torch.rand(batch, 1, WINDOW, WINDOW) * 2 - 1
        return above, target, below, torch.full((batch, 1, 1, 1), 0.5)
