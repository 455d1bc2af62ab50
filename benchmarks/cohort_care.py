"""CPU time that Dask spends monitoring idle workers, with its defaults and with our settings.

    python benchmarks/cohort_care.py [--workers 2] [--seconds 20]

It measures CPU time, so that it may run on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import time

import psutil

from pmtool.cohort import cluster
from pmtool.system.limits import total_memory

_SETTLE = 5.0
"""Seconds to wait until all processes have started."""


def shares(workers: int, seconds: float) -> tuple[float, float]:
    """Shares of a core that idle processes take.

    The first is for the process with scheduler, nannies and client, the second for a worker.
    """
    with cluster.local_cluster(workers, total_memory() // workers) as client:
        time.sleep(_SETTLE)
        process_ids = client.run(os.getpid).values()
        processes = [psutil.Process(), *map(psutil.Process, process_ids)]
        before = [_cpu_seconds(process) for process in processes]
        time.sleep(seconds)
        after = [_cpu_seconds(process) for process in processes]
    own, *theirs = ((b - a) / seconds for a, b in zip(before, after, strict=True))
    return own, sum(theirs) / workers


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Print both shares in percent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    ours = cluster.CARE
    for name, settings in (("Dask's defaults", {}), ("pmtool's", ours)):
        cluster.CARE = settings
        own, theirs = shares(arguments.workers, arguments.seconds)
        print(f"{name}: scheduler {100 * own:.1f} % of a core, a worker {100 * theirs:.1f} %")


if __name__ == "__main__":
    main()
