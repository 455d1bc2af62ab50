"""Generation of the slices that a grid asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from pmtool.geometry.grid import Grid, parents
from pmtool.geometry.thickness import relative_thickness
from pmtool.resampling.assembly import DyadicStack
from pmtool.sampling.pairs import SlicePair
from pmtool.system.stages import Progress, ProgressOf


class SliceSampler(Protocol):
    """The part of `pmtool.sampling.sampler.Sampler` that is used here."""

    def generate(
        self, pairs: Sequence[SlicePair], progress: Progress | None = None
    ) -> Iterator[tuple[int, NDArray[np.int16]]]: ...


class Job(NamedTuple):
    """A slice to generate."""

    node: int
    sample: int


class Pairs(Sequence[SlicePair]):
    """The neighbours of slices to generate, fetched when needed."""

    def __init__(self, stack: DyadicStack, jobs: Sequence[Job]) -> None:
        self.stack = stack
        self.jobs = jobs

    def __len__(self) -> int:
        return len(self.jobs)

    @overload
    def __getitem__(self, index: int) -> SlicePair: ...
    @overload
    def __getitem__(self, index: slice) -> Pairs: ...
    def __getitem__(self, index: int | slice) -> SlicePair | Pairs:
        if isinstance(index, slice):
            return Pairs(self.stack, self.jobs[index])
        node, sample = self.jobs[index]
        above, below = (self.stack.node(parent, sample) for parent in parents(node))
        relative = relative_thickness(self.stack.volume.thickness, self.stack.grid.distance(node))
        return SlicePair(above, below, relative, self.stack.grid.number(node), sample)


def all_jobs(grid: Grid, samples: int) -> list[list[Job]]:
    """The slices to generate for a grid, one list per round."""
    return [
        [Job(node, sample) for sample in range(samples) for node in nodes]
        for nodes in grid.generated_rounds()
    ]


def missing_jobs(stack: DyadicStack, samples: int) -> list[list[Job]]:
    """Those of `all_jobs` that the store lacks."""
    return [
        [job for job in jobs if stack.key(*job) not in stack.generated]
        for jobs in all_jobs(stack.grid, samples)
    ]


def synthesise(
    stack: DyadicStack, sampler: SliceSampler, samples: int, progress: ProgressOf | None
) -> None:
    """Fill the stack's store, round by round.

    Parameters
    ----------
    stack
        Stack whose store may hold slices of an earlier run.
    sampler
        Generator of the middle one of three slices.
    samples
        Number of samples of every slice.
    progress
        Called with the progress, including slices of an earlier run; None to report nothing.
    """
    rounds = missing_jobs(stack, samples)
    total = sum(map(len, all_jobs(stack.grid, samples)))
    done = total - sum(len(jobs) for jobs in rounds)
    for jobs in rounds:
        round_progress = None if progress is None else _shifted(progress, done, total)
        generate(stack, sampler, jobs, round_progress)
        done += len(jobs)


def generate(
    stack: DyadicStack,
    sampler: SliceSampler,
    jobs: Sequence[Job],
    progress: Progress | None = None,
) -> None:
    """Put the slices of one round's jobs into the stack's store, each as soon as it is ready."""
    if not jobs:
        return
    for index, values in sampler.generate(Pairs(stack, jobs), progress):
        stack.generated[stack.key(*jobs[index])] = values


def _shifted(progress: ProgressOf, done: int, total: int) -> Progress:
    return lambda slices: progress(done + slices, total)
