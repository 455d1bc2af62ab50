"""The cached sampler with a clock on every graph."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from pmtool.arrays import Slice
from pmtool.backends.selection import Engine
from pmtool.benchmark.floor import PARTS
from pmtool.choices import Precision
from pmtool.interface.graph_names import CHOOSERS, kind_and_depth
from pmtool.interface.protocol import Arrays, Backend, Memory, Program
from pmtool.models.bundle import Bundle
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import SlicePair
from pmtool.sampling.plan import Plan, operations
from pmtool.sampling.sampler import Sampler
from pmtool.sampling.windows import pixels_of_windows
from pmtool.system.devices import CPU
from pmtool.system.stages import Progress

_PART_OF = {"window": "window", "row": "row", "known": "row"} | dict.fromkeys(CHOOSERS, "pixel")
"""Part of the work by the kind of graph that does it."""


class Clock:
    """Seconds spent by part of the work; may be used by several threads.

    Attributes
    ----------
    seconds
        Seconds by part.
    running
        Whether programs wait for their end and report to the clock; otherwise they do neither.
    """

    def __init__(self) -> None:
        self.seconds = defaultdict[str, float](float)
        self.running = True
        self._lock = threading.Lock()

    def add(self, part: str, seconds: float) -> None:
        """Add seconds to a part."""
        with self._lock:
            self.seconds[part] += seconds


class TimedBackend:
    """A backend whose programs report their run times to a clock."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self.backend, self.clock = backend, clock
        self.name, self.device = backend.name, backend.device
        self.precision: Precision = backend.precision
        self.memory, self.windows_per_call = backend.memory, backend.windows_per_call
        self.keeps_programs = backend.keeps_programs

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`."""
        part = _PART_OF[kind_and_depth(graph)[0]]
        return _TimedProgram(self.backend.bind(graph, arrays), part, self.clock, self.memory)


class _TimedProgram(NamedTuple):
    program: Program
    part: str
    clock: Clock
    memory: Memory

    def run(self) -> None:
        start = time.perf_counter()
        self.program.run()
        if self.clock.running:
            self.memory.wait()
            self.clock.add(self.part, time.perf_counter() - start)


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
    sampler
        Sampler that was used.
    plan
        Plan of the run.
    start
        Seconds to load the engine, not included in ``seconds``; on a CPU, graphs are loaded later,
        when they are first needed.
    seconds
        Seconds from the call to the last slice.
    shares
        Shares of the workers' time by graph; ``driver`` is the rest, including waiting.
        None if they were not requested.
    slices
        Generated slices, ``(H, W)`` in HU each.
    """

    sampler: TimedSampler
    plan: Plan
    start: float
    seconds: float
    shares: dict[str, float] | None
    slices: list[Slice]

    @property
    def engine(self) -> Engine:
        """The engine of the sampler."""
        return self.sampler.engine

    @property
    def backend(self) -> Backend:
        """The model on the first device, for calls that may use all threads."""
        return self.sampler.load(self.engine.devices[0], self.plan.threads)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a slice."""
        height, width = self.slices[0].shape
        return height, width

    @property
    def operations(self) -> float:
        """Number of operations that the plain network needs for one pass of every window."""
        pixels = pixels_of_windows(self.plan.shape, self.plan.window)
        return operations(self.sampler.bundle.hyperparameters, pixels) * len(self.slices)


def run_cached(
    bundle: Bundle,
    options: SamplerOptions,
    pairs: Sequence[SlicePair],
    progress: Progress | None = None,
    *,
    shares: bool = True,
) -> CachedRun:
    """Load the engine, then generate and time the slices of all pairs.

    On a GPU, programs are launched before earlier ones are done. The shares are therefore measured
    in a second pass over all slices, in which the clock waits for the end of each program.
    """
    begun = time.perf_counter()
    sampler = TimedSampler(bundle, options, Clock())
    on_cpu = sampler.engine.devices == (CPU,)
    sampler.clock.running = shares and on_cpu
    height, width = pairs[0].above.shape
    plan = sampler.plan((height, width), len(pairs))
    sampler.load_for(plan)
    start = time.perf_counter() - begun
    seconds, slices = _generate(sampler, plan, pairs, progress)
    if not shares:
        return CachedRun(sampler, plan, start, seconds, None, slices)
    clocked = seconds
    if not on_cpu:
        sampler.clock.running = True
        clocked, _ = _generate(sampler, plan, pairs, progress)
    time_shares = _shares(sampler.clock, clocked * plan.workers)
    return CachedRun(sampler, plan, start, seconds, time_shares, slices)


def _shares(clock: Clock, worked: float) -> dict[str, float]:
    shares = {part: clock.seconds[part] / worked for part in PARTS}
    return {**shares, "driver": 1 - sum(shares.values())}


def _generate(
    sampler: Sampler, plan: Plan, pairs: Sequence[SlicePair], progress: Progress | None
) -> tuple[float, list[Slice]]:
    start = time.perf_counter()
    slices = dict(sampler.generate(pairs, progress, plan))
    return time.perf_counter() - start, [slices[index] for index in range(len(pairs))]
