"""The cached sampler: slices between slices, window by window, for many slice pairs at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmtool.backends import Backend
from pmtool.bundle import Bundle
from pmtool.errors import UsageError
from pmtool.layout import Layout
from pmtool.pairs import PairGroup, SlicePair
from pmtool.plan import Estimate, Plan, SamplerOptions, estimate, make_plan
from pmtool.windows import Window, wavefronts

__all__ = ["Estimate", "Sampler", "SamplerOptions", "SlicePair"]

Slice = NDArray[np.int16]


class Sampler:
    """Generates slices with a model on a device.

    Parameters
    ----------
    device
        ``auto`` or ``cpu``.

    Raises
    ------
    UsageError
        If the device or its engine is not there.
    """

    def __init__(self, bundle: Bundle, options: SamplerOptions, device: str = "auto") -> None:
        if device not in ("auto", "cpu"):
            raise UsageError(
                f"the device {device} is not supported by this version: use --device cpu"
            )
        from pmtool.backends.onnxruntime import OnnxRuntimeBackend, runtime

        runtime()
        self.backend = OnnxRuntimeBackend.name
        self.bundle, self.options, self.device = bundle, options, "cpu"
        self.layout = Layout(bundle.hyperparameters)
        self._engines: dict[int, Backend] = {}

    def engine(self, threads: int) -> Backend:
        """The model in its engine, loaded once, for calls that may use so many threads each."""
        from pmtool.backends.onnxruntime import OnnxRuntimeBackend

        if threads not in self._engines:
            self._engines[threads] = OnnxRuntimeBackend(self.bundle, threads)
        return self._engines[threads]

    def estimate(self, shape: tuple[int, int], pairs: int) -> Estimate:
        """What generating ``pairs`` slices will take; raises `MemoryBudgetError`, `UsageError`."""
        return estimate(self.layout, make_plan(self.layout, self.options, shape, pairs))

    def generate(
        self, pairs: Sequence[SlicePair], progress: Callable[[float], None] | None = None
    ) -> Iterator[tuple[int, Slice]]:
        """Generate the slice of every pair.

        Parameters
        ----------
        pairs
            All of one shape.
        progress
            Told of the slices done so far, counting pixels, in the calling thread.

        Yields
        ------
        tuple
            The pair's index and its slice, ``(H, W)`` HU, in the order in which they are finished.

        Raises
        ------
        MemoryBudgetError
            If not even a single window fits into the memory.
        """
        shape = pairs[0].above.shape
        plan = make_plan(self.layout, self.options, (shape[0], shape[1]), len(pairs))
        yield from _Run(self, plan, pairs).results(progress)


class _Progress(NamedTuple):
    slices: float


class _Finished(NamedTuple):
    pair: int
    values: Slice


class _Stopped(Exception):
    """The consumer of the slices is gone."""


class _Run:
    """One call of `Sampler.generate`: workers with a group of pairs each, and their results."""

    def __init__(self, sampler: Sampler, plan: Plan, pairs: Sequence[SlicePair]) -> None:
        self.sampler, self.plan, self.pairs = sampler, plan, pairs
        self.backend = sampler.engine(max(1, plan.threads // plan.workers))
        self.events: queue.SimpleQueue[_Progress | _Finished] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.fronts = wavefronts(plan.shape, plan.window)

    def results(self, progress: Callable[[float], None] | None) -> Iterator[tuple[int, Slice]]:
        done = 0.0
        with ThreadPoolExecutor(self.plan.workers) as pool:
            futures = [pool.submit(self._group, indices) for indices in self._groups()]
            try:
                while not self.events.empty() or not all(f.done() for f in futures):
                    for failed in (f for f in futures if f.done() and f.exception()):
                        failed.result()
                    try:
                        event = self.events.get(timeout=0.2)
                    except queue.Empty:
                        continue
                    if isinstance(event, _Finished):
                        yield event.pair, event.values
                    else:
                        done += event.slices
                        if progress is not None:
                            progress(done)
                for future in futures:
                    future.result()
            finally:
                self.stop.set()
                pool.shutdown(cancel_futures=True)

    def _groups(self) -> list[range]:
        """Pairs divided evenly among workers, a batch or fewer at once."""
        count, workers = len(self.pairs), self.plan.workers
        rounds = -(-count // (self.plan.batch * workers))
        bounds = np.linspace(0, count, min(count, rounds * workers) + 1).round().astype(int)
        return [range(a, b) for a, b in pairwise(bounds)]

    def _group(self, indices: range) -> None:
        pairs = [self.pairs[i] for i in indices]
        group = PairGroup(self.sampler.bundle.hyperparameters, pairs, self.plan.shape)
        for front in self.fronts:
            for _, windows in groupby(sorted(front, key=_kind), key=_kind):
                lanes = [(pair, window) for window in windows for pair in range(len(pairs))]
                for chunk in _even_chunks(lanes, self.plan.batch):
                    self._batch(group, chunk)
        for index, values in zip(indices, group.slices(), strict=True):
            self.events.put(_Finished(index, values))

    def _batch(self, group: PairGroup, lanes: Sequence[tuple[int, Window]]) -> None:
        options, window = self.sampler.options, lanes[0][1]
        chooser = "mean" if options.mode == "mean" else "quantile"
        batch = group.lanes(self.backend, window, len(lanes), chooser)
        batch.prepare([group.neighbours(pair, w) for pair, w in lanes])
        share = 1 / (group.height * group.width)
        pixels = len(lanes) * (window.width - window.known_columns) * share

        def on_row(row: int, parameters: NDArray[np.float32]) -> None:
            if self.stop.is_set():
                raise _Stopped
            self.events.put(_Progress(pixels))

        uniforms = group.uniforms(lanes, options.seed, options.mode)
        known = np.stack([group.target(pair, w) for pair, w in lanes], axis=-1)
        generated = batch.generate(known, uniforms, on_row)
        for lane, (pair, w) in enumerate(lanes):
            group.target(pair, w)[:] = generated[..., lane]


def _kind(window: Window) -> tuple[int, int]:
    return window.known_rows, window.known_columns


def _even_chunks(
    lanes: list[tuple[int, Window]], most: int
) -> Iterator[Sequence[tuple[int, Window]]]:
    count = -(-len(lanes) // most)
    size = -(-len(lanes) // count)
    yield from (lanes[i : i + size] for i in range(0, len(lanes), size))
