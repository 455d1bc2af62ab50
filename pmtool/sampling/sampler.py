"""The cached sampler: generates slices between slices, by windows, for many pairs at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import replace
from itertools import cycle, islice, pairwise
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from pmtool.arrays import Slice
from pmtool.backends.selection import Engine, choose_engine, working_engines
from pmtool.choices import Mode
from pmtool.errors import MemoryBudgetError, is_memory_shortage
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Backend
from pmtool.models.bundle import Bundle
from pmtool.sampling.lane_cache import LaneCache
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import Batch, PairGroup, SlicePair
from pmtool.sampling.plan import WITHOUT_LOOPS, Plan, make_gpu_plan, make_plan
from pmtool.sampling.startup import start
from pmtool.sampling.windows import alike_windows
from pmtool.system.devices import CPU, free_gpu_memory
from pmtool.system.stages import Progress

_EXTENT = attrgetter("workers", "batch")
"""How much of a job runs at once: the key by which plans are compared."""


class Planner:
    """Plans how slices are generated with a model on a device.

    Parameters
    ----------
    bundle
        The model.
    options
        Options of the sampler.
    engine
        Engine to plan for; the first one that passes its check if None.

    Attributes
    ----------
    device
        Devices of the engine, separated by commas.
    free_gpu_memory
        Free memory of the fullest GPU in bytes, read once: later, engines keep memory that they
        have used. 0 on a CPU.

    Raises
    ------
    UsageError
        If the device or its engine is missing.
    MemoryBudgetError
        If a GPU has no memory left.
    """

    def __init__(
        self, bundle: Bundle, options: SamplerOptions, engine: Engine | None = None
    ) -> None:
        self.bundle, self.options = bundle, options
        self.engine = engine or choose_engine(options.backend, options.device, options.precision)
        self.device = ",".join(self.engine.devices)
        self.layout = Layout(bundle.hyperparameters)
        self.free_gpu_memory = 0
        if self.device != CPU:
            self.free_gpu_memory = min(map(free_gpu_memory, self.engine.devices))

    def plan(self, shape: tuple[int, int], pairs: int) -> Plan:
        """Plan how ``pairs`` slices are generated; raises `MemoryBudgetError`."""
        devices = self.engine.devices
        if devices == (CPU,):
            plan = make_plan(self.bundle, self.options, shape, pairs, self.engine.backend)
            times = 1 if self.engine.pixels == "kernel" else WITHOUT_LOOPS
            return plan._replace(seconds_per_slice=times * plan.seconds_per_slice)
        return make_gpu_plan(
            self.layout, self.options, shape, pairs, len(devices), self.free_gpu_memory
        )

    def identity(self, plan: Plan) -> dict[str, Any]:
        """Everything that determines a slice between two others, as plain JSON values."""
        return {
            "model": self.bundle.hash,
            "backend": self.engine.backend,
            "precision": self.engine.precision,
            "pixels": self.engine.pixels,
            "window": list(plan.window),
            "seed": self.options.seed,
            "mode": self.options.mode,
        }


class Sampler(Planner):
    """Generates slices with a model on a device; on GPUs it is loaded immediately, see `start`.

    Raises
    ------
    UsageError
        If the device or its engine is missing or does not work.
    MemoryBudgetError
        If a GPU has no memory left.
    """

    def __init__(self, bundle: Bundle, options: SamplerOptions) -> None:
        engines = working_engines(options.backend, options.device, options.precision)
        engine, self._on_gpus = start(engines, bundle, options.thread_count, options.mode)
        super().__init__(bundle, options, engine)
        self._on_cpu: dict[int, Backend] = {}
        self._carried_out: dict[tuple[int, int], Plan] = {}

    def plan(self, shape: tuple[int, int], pairs: int) -> Plan:
        """Plan how ``pairs`` slices are generated; raises `MemoryBudgetError`.

        On a CPU, the process keeps and reuses memory that the model has used, which a new plan
        counts as lost. A larger plan that was carried out for slices of this shape therefore holds.
        """
        earlier = self._carried_out.get(shape)
        plans = [] if earlier is None else [earlier._replace(workers=min(earlier.workers, pairs))]
        try:
            plans.append(super().plan(shape, pairs))
        except MemoryBudgetError:
            if not plans:
                raise
        return max(plans, key=_EXTENT)

    def in_mode(self, mode: Mode) -> Sampler:
        """Return a sampler with another mode that shares the loaded model."""
        other = copy(self)
        other.options = replace(self.options, mode=mode)
        return other

    def load(self, device: str, threads: int) -> Backend:
        """Return the model on a device, loaded once.

        On the CPU, it is loaded once for every number of threads that a call may use.
        """
        if device != CPU:
            return self._on_gpus[device]
        if threads not in self._on_cpu:
            self._on_cpu[threads] = self.engine.load(self.bundle, CPU, threads)
        return self._on_cpu[threads]

    def load_for(self, plan: Plan) -> list[Backend]:
        """Return the model of every worker of a plan."""
        devices = islice(cycle(self.engine.devices), plan.workers)
        return [self.load(device, plan.threads_of(i)) for i, device in enumerate(devices)]

    def generate(
        self,
        pairs: Sequence[SlicePair],
        progress: Progress | None = None,
        plan: Plan | None = None,
    ) -> Iterator[tuple[int, Slice]]:
        """Generate the slice of every pair.

        Parameters
        ----------
        pairs
            Slice pairs, all of one shape.
        progress
            Called in the calling thread with the number of slices done so far, including
            fractions of slices.
        plan
            The plan to carry out, a result of `plan` for these pairs; made now if None.

        Yields
        ------
        tuple
            The index of a pair and its slice, ``(H, W)`` in HU, in order of completion.

        Raises
        ------
        MemoryBudgetError
            If not even a single window fits into the memory.
        """
        height, width = pairs[0].above.shape
        plan = plan or self.plan((height, width), len(pairs))
        yield from _Run(self, plan, pairs).results(progress)
        if self.device == CPU:
            earlier = self._carried_out.get((height, width), plan)
            self._carried_out[height, width] = max(earlier, plan, key=_EXTENT)


class _Advance(NamedTuple):
    slices: float


class _Finished(NamedTuple):
    pair: int
    values: Slice


class _Stopped(Exception):
    """Ends a worker because the consumer of the slices is gone or another worker has failed."""


class _Run:
    """One call of `Sampler.generate`: workers that take one group of pairs at a time."""

    def __init__(self, sampler: Sampler, plan: Plan, pairs: Sequence[SlicePair]) -> None:
        self.sampler, self.plan, self.pairs = sampler, plan, pairs
        self.backends = sampler.load_for(plan)
        self.events: queue.SimpleQueue[_Advance | _Finished] = queue.SimpleQueue()
        self.stop = threading.Event()

    def results(self, progress: Progress | None) -> Iterator[tuple[int, Slice]]:
        engine, plan, done = self.sampler.engine, self.plan, 0.0
        with ThreadPoolExecutor(plan.workers) as pool:
            groups = queue.SimpleQueue[range]()
            for indices in self._groups():
                groups.put(indices)
            try:
                workers = [
                    pool.submit(self._work, backend, engine.in_worker(plan.threads_of(i)), groups)
                    for i, backend in enumerate(self.backends)
                ]
                for event in self._events(workers):
                    if isinstance(event, _Finished):
                        yield event.pair, event.values
                        continue
                    done += event.slices
                    if progress is not None:
                        progress(done)
            finally:
                self.stop.set()
                pool.shutdown(cancel_futures=True)

    def _events(self, workers: Sequence[Future[None]]) -> Iterator[_Advance | _Finished]:
        """Yield the workers' events until all are done; raises the error of a worker.

        If one fails, the others stop, and finished slices are yielded before the error is raised.
        """
        while not all(worker.done() for worker in workers) or not self.events.empty():
            if any(worker.done() and worker.exception() for worker in workers):
                self.stop.set()
            try:
                event = self.events.get(timeout=0.2)
            except queue.Empty:
                continue
            yield event
        for worker in workers:
            worker.result()

    def _groups(self) -> list[range]:
        """Divide the pairs evenly among workers, at most a batch at once."""
        count, workers = len(self.pairs), self.plan.workers
        rounds = -(-count // (self.plan.batch * workers))
        bounds = np.linspace(0, count, min(count, rounds * workers) + 1).round().astype(int)
        return [range(a, b) for a, b in pairwise(bounds)]

    def _work(
        self,
        backend: Backend,
        context: AbstractContextManager[None],
        groups: queue.SimpleQueue[range],
    ) -> None:
        hyperparameters = self.sampler.bundle.hyperparameters
        cache = LaneCache(backend, hyperparameters, self.plan.window, self.plan.batch)
        with context, suppress(queue.Empty, _Stopped):
            while True:
                self._group(groups.get_nowait(), cache)

    def _group(self, indices: range, cache: LaneCache) -> None:
        pairs = [self.pairs[i] for i in indices]
        hyperparameters, memory = self.sampler.bundle.hyperparameters, cache.backend.memory
        group = PairGroup(hyperparameters, pairs, self.plan.shape, memory)
        for windows in alike_windows(self.plan.shape, self.plan.window):
            lanes = [(pair, window) for window in windows for pair in range(len(pairs))]
            self._lanes(cache, group, lanes)
        for index, values in zip(indices, group.slices(), strict=True):
            self.events.put(_Finished(index, values))

    def _lanes(self, cache: LaneCache, group: PairGroup, lanes: Batch) -> None:
        """Generate windows of one kind in even batches, which get smaller if memory runs out."""
        while lanes:
            size = -(-len(lanes) // -(-len(lanes) // cache.most))
            try:
                self._batch(cache, group, lanes[:size])
            except Exception as error:
                if not is_memory_shortage(error) or not cache.shrink(size):
                    raise
            else:
                lanes = lanes[size:]

    def _batch(self, cache: LaneCache, group: PairGroup, lanes: Batch) -> None:
        options, window = self.sampler.options, lanes[0][1]
        share = 1 / (group.height * group.width)
        slices = len(lanes) * (window.width - window.known_columns) * share
        advanced = 0.0

        def on_row(row: int) -> None:
            nonlocal advanced
            if self.stop.is_set():
                raise _Stopped
            self.events.put(_Advance(slices))
            advanced += slices

        try:
            cache.generate(group, lanes, options.seed, options.mode, on_row)
        except Exception:
            self.events.put(_Advance(-advanced))
            raise
