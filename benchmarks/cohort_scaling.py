"""Measure what scheduling a cohort costs, with cases that only sleep.

    python benchmarks/cohort_scaling.py [--most 10000] [--json FILE]

The workers are threads of a real Dask worker, in a process of its own, and take the cases that
`pmtool cohort` hands out. The scheduler and the collection of results share the other process.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import distributed

from pmtool.benchmark.report import machine
from pmtool.cohort import dispatch
from pmtool.cohort.cases import Case
from pmtool.cohort.request import Request
from pmtool.cohort.result import Result
from pmtool.system.tables import markdown
from pmtool.system.versions import package_version

WORKERS = (1, 4, 16, 64)
COUNTS = (1, 10, 100, 1000, 10_000)
SECONDS = (0.03, 0.1, 0.3, 1.0, 3.0)
LASTING = 3.0
"""Least number of seconds that a measurement of efficiency takes."""


class Run(NamedTuple):
    """A run of cases of equal duration.

    Attributes
    ----------
    workers, cases
        Number of workers and of cases.
    seconds_a_case
        Duration of a case in seconds.
    seconds
        Seconds that all cases took.
    core_seconds
        CPU time of the process with the scheduler in seconds; it hardly depends on what else runs
        on the machine.
    """

    workers: int
    cases: int
    seconds_a_case: float
    seconds: float
    core_seconds: float

    @property
    def efficiency(self) -> float:
        """Share of the workers' time that they spent on cases."""
        return self.cases * self.seconds_a_case / (self.workers * self.seconds)


def measure(client: distributed.Client, workers: int, count: int, seconds: float) -> Run:
    """Time the cases from the first submission to the last result."""

    def sleep(case: Case, request: Request, *, tell: object) -> Result:
        time.sleep(seconds)
        return Result.of(case, "done")

    cases = [Case(Path("scan.nrrd"), name=f"case-{number}") for number in range(count)]
    sizes = dict.fromkeys([case.name for case in cases])
    request = Request(Path("out"), (1.25,))
    start, start_core = time.perf_counter(), time.process_time()
    with patch.object(dispatch, "resample_case", sleep):
        done = sum(1 for _ in dispatch.dispatch(client, cases, request, sizes, lambda *_: None))
    took, core = time.perf_counter() - start, time.process_time() - start_core
    print(f"{workers} workers, {count} cases of {seconds:g} s: {took:.2f} s", file=sys.stderr)
    assert done == count
    return Run(workers, count, seconds, took, core)


def measure_all(most: int) -> list[Run]:
    """Measure different numbers of cases without duration, then cases of different durations."""
    counts = [count for count in COUNTS if count <= most]
    runs = []
    for workers in WORKERS:
        with (
            distributed.LocalCluster(
                n_workers=1,
                threads_per_worker=workers,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            measure(client, workers, workers, 0)  # whatever the first task costs
            runs += [measure(client, workers, count, 0) for count in counts]
            for seconds in SECONDS:
                count = min(most, workers * max(2, round(LASTING / seconds)))
                runs.append(measure(client, workers, count, seconds))
    return runs


def tables(runs: Sequence[Run]) -> str:
    """Tables of milliseconds per case and of efficiencies, in Markdown."""
    idle = {(run.workers, run.cases): run for run in runs if not run.seconds_a_case}
    busy = {(run.workers, run.seconds_a_case): run for run in runs if run.seconds_a_case}
    counts = sorted({cases for _, cases in idle})
    costs = [
        [str(workers), *(_cost(idle[workers, count]) for count in counts)] for workers in WORKERS
    ]
    efficiencies = [
        [str(workers), *(f"{100 * busy[workers, x].efficiency:.0f} %" for x in SECONDS)]
        for workers in WORKERS
    ]
    return "\n\n".join(
        [
            markdown(["workers", *(f"{count:,} cases" for count in counts)], costs),
            markdown(["workers", *(f"{x:g} s" for x in SECONDS)], efficiencies),
        ]
    )


def _cost(run: Run) -> str:
    """Milliseconds per case, with CPU time in brackets."""
    return f"{1e3 * run.seconds / run.cases:.1f} ({1e3 * run.core_seconds / run.cases:.1f})"


def described_machine() -> dict[str, Any]:
    """The machine and the versions that matter."""
    versions = {name: package_version(name) for name in ("distributed", "pmtool")}
    return {**machine(), **versions}


def main() -> None:
    """Print milliseconds per case without duration (CPU time in brackets), then efficiencies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to a file too")
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="cases at once")
    arguments = parser.parse_args()
    target, before = arguments.json, described_machine()
    runs = measure_all(arguments.most)
    if target is not None:
        rows = [{**run._asdict(), "efficiency": run.efficiency} for run in runs]
        target.write_text(json.dumps({"machine": before, "runs": rows}, indent=1) + "\n")
    print(tables(runs))


if __name__ == "__main__":
    main()
