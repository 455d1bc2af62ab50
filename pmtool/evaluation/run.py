"""An evaluation: dropped slices are made again by every method and scored."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from pmtool.evaluation.methods import Maker, Method
from pmtool.evaluation.results import Results, collect
from pmtool.evaluation.scan import ScanSlice, ThinScan
from pmtool.evaluation.scoring import REFERENCE, Scores, Task, score
from pmtool.evaluation.store import Store
from pmtool.system.stages import Tell, progress_of

_TASKS_AT_ONCE = 2
"""Tasks in flight per worker: their slices are in memory."""

Mapper = Callable[[Sequence[Task]], Iterable[dict[str, Scores]]]
"""Scores a few slices at once, in order."""


class Case(NamedTuple):
    """A scan, its slices to score, and what makes them again, by method."""

    scan: ThinScan
    indices: list[int]
    makers: dict[str, Maker]


def choose_slices(scan: ThinScan, count: int | None, seed: int) -> list[int]:
    """The dropped slices to score: all, or some at random; more of them contain fewer."""
    shuffled = np.random.default_rng(seed).permutation(np.array(scan.dropped))
    return sorted(int(index) for index in shuffled[:count])


def run_evaluation(
    chosen: Sequence[tuple[ThinScan, list[int]]],
    methods: Sequence[Method],
    store: Store,
    workers: int,
    tell: Tell,
) -> tuple[Results, list[Case]]:
    """Score what the store lacks, and collect all.

    Parameters
    ----------
    chosen
        Scans and the slices of each to score.
    methods
        At least one.
    store
        Store of scores, filled as slices are scored, so that an interrupted evaluation can resume.
    workers
        Processes that score.
    """
    scores: list[tuple[ScanSlice, dict[str, Scores]]] = []
    cases = []
    with _mapper(workers) as mapper:
        for scan, indices in chosen:
            scored = _Scored(scan, indices, methods, store)
            makers = _makers(scored, methods, tell)
            case = Case(scan, indices, makers)
            scored.complete(case, mapper, _TASKS_AT_ONCE * workers, tell)
            scores += [(ScanSlice(scan.name, i), scored.scores[i]) for i in indices]
            cases.append(case)
    return collect(scores), cases


class _Scored:
    """Scores of a scan's slices by method, those of the store and those that are added to it."""

    def __init__(
        self, scan: ThinScan, indices: Sequence[int], methods: Sequence[Method], store: Store
    ) -> None:
        self.scan, self.store = scan, store
        self.identities = {
            REFERENCE: {REFERENCE: True},
            **{method.name: method.identity(scan) for method in methods},
        }
        self.scores: dict[int, dict[str, Scores]] = {}
        for index in indices:
            found = {name: store.get(scan, index, key) for name, key in self.identities.items()}
            self.scores[index] = {name: x for name, x in found.items() if x is not None}

    def missing(self, index: int) -> list[str]:
        """What is not scored yet."""
        return [name for name in self.identities if name not in self.scores[index]]

    def complete(self, case: Case, mapper: Mapper, at_once: int, tell: Tell) -> None:
        """Score what is missing; all slices have all methods then, in the same order."""
        indices = [index for index in case.indices if self.missing(index)]
        for start in range(0, len(indices), at_once):
            tell(f"{self.scan.name}: scoring", start / len(indices))
            part = indices[start : start + at_once]
            tasks = [_task(case, index, self.missing(index)) for index in part]
            for index, scores in zip(part, mapper(tasks), strict=True):
                for name, new in scores.items():
                    self.store.put(self.scan, index, self.identities[name], new)
                    self.scores[index][name] = new
        for index, scores in self.scores.items():
            self.scores[index] = {name: scores[name] for name in self.identities}


def _makers(scored: _Scored, methods: Sequence[Method], tell: Tell) -> dict[str, Maker]:
    makers: dict[str, Maker] = {REFERENCE: scored.scan.truth}
    for method in methods:
        wanted = [index for index in scored.scores if method.name in scored.missing(index)]
        progress = progress_of(tell, f"{scored.scan.name}: {method.name}", len(wanted))
        makers[method.name] = method.maker(scored.scan, wanted, progress)
    return makers


def _task(case: Case, index: int, names: Sequence[str]) -> Task:
    scan = case.scan
    results = {name: case.makers[name](index) for name in names}
    above, truth, below = (scan.truth(i) for i in (index - 1, index, index + 1))
    return Task(above, truth, below, results, scan.region(index), scan.pixel)


@contextmanager
def _mapper(workers: int) -> Iterator[Mapper]:
    """In this process, or in others that are started fresh and use one thread each."""
    if workers == 1:
        yield lambda tasks: map(score, tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool:
        yield lambda tasks: pool.map(score, tasks)


def _one_thread() -> None:
    """Set up a worker: one thread, and interruptions left to the process that started it."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
