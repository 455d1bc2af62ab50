"""Running an evaluation: every method regenerates the dropped slices, which are then scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from pmtool.errors import MemoryBudgetError
from pmtool.evaluation.methods import Maker, Method, makers
from pmtool.evaluation.results import Results, collect
from pmtool.evaluation.scan import ScanSlice, ThinScan
from pmtool.evaluation.scoring import REFERENCE, Scores, Task, score
from pmtool.evaluation.store import Store
from pmtool.system.processes import check_processes, leave_terminal_to_parent
from pmtool.system.stages import Tell

_TASKS_AT_ONCE = 2
"""Number of tasks in flight per worker; their slices are held in memory."""

Mapper = Callable[[Sequence[Task]], Iterable[dict[str, Scores]]]
"""Scores a few slices at once and returns the scores in order."""


class Case(NamedTuple):
    """A scan, the indices of its slices to score, and what regenerates them, by method."""

    scan: ThinScan
    indices: list[int]
    makers: dict[str, Maker]


def choose_slices(scan: ThinScan, count: int | None, seed: int) -> list[int]:
    """Choose the dropped slices to score: all, or ``count`` at random.

    With the same seed, a larger choice contains every smaller one.
    """
    shuffled = np.random.default_rng(seed).permutation(np.array(scan.dropped))
    return sorted(int(index) for index in shuffled[:count])


def run_evaluation(
    chosen: Sequence[tuple[ThinScan, list[int]]],
    methods: Sequence[Method],
    store: Store,
    workers: int,
    tell: Tell,
) -> tuple[Results, list[Case]]:
    """Score the slices that the store lacks, and collect all scores.

    Parameters
    ----------
    chosen
        Scans and the indices of the slices to score in each.
    methods
        The methods, at least one.
    store
        Store of scores, filled as slices are scored, so that an interrupted evaluation can resume.
    workers
        Number of scoring processes.
    tell
        Called with the current stage and its progress.

    Raises
    ------
    UsageError
        If several processes are asked for and cannot work together on this machine.
    """
    scores: list[tuple[ScanSlice, dict[str, Scores]]] = []
    cases = []
    with _mapper(workers) as mapper:
        for scan, indices in chosen:
            scored = _Scored(scan, indices, methods, store)
            work = [(method, scored.without(method.name)) for method in methods]
            case = Case(scan, indices, makers(scan, work, tell))
            scored.complete(case, mapper, _TASKS_AT_ONCE * workers, tell)
            scores += [(ScanSlice(scan.name, i), scored.scores[i]) for i in indices]
            cases.append(case)
    return collect(scores), cases


class _Scored:
    """Scores of a scan's slices by method: those in the store and those being added to it."""

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
            stored = {name: store.get(scan, index, key) for name, key in self.identities.items()}
            self.scores[index] = {name: x for name, x in stored.items() if x is not None}

    def missing(self, index: int) -> list[str]:
        """Names of the methods that have no scores for a slice yet."""
        return [name for name in self.identities if name not in self.scores[index]]

    def without(self, method: str) -> list[int]:
        """Indices of the slices that have no scores of a method yet."""
        return [index for index in self.scores if method in self.missing(index)]

    def complete(self, case: Case, mapper: Mapper, at_once: int, tell: Tell) -> None:
        """Score what is missing, so that all slices have all methods in the same order."""
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


def _task(case: Case, index: int, names: Sequence[str]) -> Task:
    scan = case.scan
    results = {name: case.makers[name](index) for name in names}
    above, truth, below = (scan.truth(i) for i in (index - 1, index, index + 1))
    return Task(above, truth, below, results, scan.region(index), scan.pixel)


@contextmanager
def _mapper(workers: int) -> Iterator[Mapper]:
    """Provide a mapper in this process, or in fresh processes that use one thread each."""
    if workers == 1:
        yield lambda tasks: map(score, tasks)
        return
    check_processes("give --workers 1")
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool:
            yield lambda tasks: pool.map(score, tasks)
    except BrokenProcessPool as error:  # the system kills processes when memory is short
        raise MemoryBudgetError(
            "a process that scored slices was ended, most likely for lack of memory: give fewer "
            "--workers; scores so far are kept"
        ) from error


def _one_thread() -> None:
    """Set up a worker: use one thread, and leave interrupts to the process that started it."""
    import cv2

    leave_terminal_to_parent()
    cv2.setNumThreads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
