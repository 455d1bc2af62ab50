"""The cached sampler with a clock on every graph."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmtool.backends import Backend, Program
from pmtool.backends.protocol import Arrays, Memory, Precision
from pmtool.bundle import Bundle
from pmtool.pairs import SlicePair
from pmtool.plan import Plan, SamplerOptions, operations
from pmtool.sampler import Sampler
from pmtool.windows import wavefronts

KINDS = {"window": "window", "row": "row", "known": "row", "quantile": "pixel", "mean": "pixel"}
"""What `pmtool bench` calls a graph, by its name without the depth."""


class Clock:
    """Seconds spent, by kind of graph; several threads may tell it of theirs."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: str, seconds: float) -> None:
        """Count seconds."""
        with self._lock:
            self.seconds[kind] += seconds  # type: ignore[assignment]  # typeshed: int


class TimedBackend:
    """A backend whose programs tell a clock how long they ran."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self.backend, self.clock = backend, clock
        self.name, self.device = backend.name, backend.device
        self.precision: Precision = backend.precision
        self.memory, self.windows, self.keeps = backend.memory, backend.windows, backend.keeps

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`."""
        kind = KINDS[graph.rstrip("0123456789")]
        return _TimedProgram(self.backend.bind(graph, arrays), kind, self.clock, self.memory)


class _TimedProgram(NamedTuple):
    program: Program
    kind: str
    clock: Clock
    memory: Memory

    def run(self) -> None:
        start = time.perf_counter()
        self.program.run()
        self.memory.wait()
        self.clock.add(self.kind, time.perf_counter() - start)


class TimedSampler(Sampler):
    """A sampler on a `TimedBackend`."""

    def __init__(self, bundle: Bundle, options: SamplerOptions, clock: Clock) -> None:
        super().__init__(bundle, options)
        self.clock = clock

    def load(self, device: str, threads: int) -> Backend:
        """See `Sampler.load`."""
        return TimedBackend(super().load(device, threads), self.clock)


class CachedRun(NamedTuple):
    """A timed generation.

    Attributes
    ----------
    seconds
        From the call to the last slice.
    shares
        Of the workers' time, by graph; ``driver`` is all else, waiting for each other included.
    operations
        That the plain network would need for one pass of every window.
    slices
        ``(H, W)`` HU each.
    """

    plan: Plan
    backend: str
    seconds: float
    shares: dict[str, float]
    operations: float
    slices: list[NDArray[np.int16]]


def run_cached(
    bundle: Bundle,
    options: SamplerOptions,
    pairs: Sequence[SlicePair],
    progress: Callable[[float], None] | None = None,
) -> CachedRun:
    """Generate the slices of all pairs; the graphs are loaded within the time."""
    clock = Clock()
    sampler = TimedSampler(bundle, options, clock)
    height, width = pairs[0].above.shape
    plan = sampler.plan((height, width), len(pairs))
    start = time.perf_counter()
    slices = dict(sampler.generate(pairs, progress))
    seconds = time.perf_counter() - start
    shares = {kind: clock.seconds[kind] / (seconds * plan.workers) for kind in KINDS.values()}
    shares["driver"] = 1 - sum(shares.values())
    pixels = sum(w.height * w.width for front in wavefronts(plan.shape, plan.window) for w in front)
    work = operations(bundle.hyperparameters, pixels) * len(pairs)
    ordered = [slices[index] for index in range(len(pairs))]
    return CachedRun(plan, sampler.backend, seconds, shares, work, ordered)
