"""A Dask cluster: started on this machine for as long as it is needed, or already running."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.utils import silence_logging_cmgr

from pmtool.errors import UsageError
from pmtool.system.processes import check_processes, started_without_interrupts

_TRIES = 2
"""Number of workers that may die on a case before it is set aside; see
`pmtool.cohort.dispatch`."""
CARE = {
    "distributed.worker.profile.interval": "1s",
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.worker.memory.monitor-interval": "500ms",
}
"""Intervals at which a local cluster monitors itself. Dask's defaults are meant for short tasks and
cost the scheduler and every worker some 4 % of a core; see benchmarks/cohort_scaling.md."""
_CONNECT_SECONDS = 15
_LOOPBACK = "127.0.0.1"


@contextmanager
def local_cluster(workers: int, memory: int, gpus: Sequence[str] = ()) -> Iterator[Client]:
    """Start a cluster with one process per worker on this machine's loopback interface.

    A worker that dies is replaced.

    Parameters
    ----------
    workers
        Number of workers.
    memory
        Memory limit of a worker in bytes; a worker that reaches it is considered runaway and
        killed.
    gpus
        CUDA's names of the GPUs, assigned to the workers in turn; each worker sees only its own. If
        there are none, every worker sees the GPUs that this process sees.

    Raises
    ------
    UsageError
        If no processes can work together on this machine.
    """
    check_processes("give --workers 0, or a --scheduler with workers elsewhere")
    options = {
        "nthreads": 1,
        "host": _LOOPBACK,
        "memory_limit": memory,
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
    }
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}]
    spec = {
        number: {
            "cls": Nanny,
            "options": {**options, "env": environments[number % len(environments)]},
        }
        for number in range(workers)
    }
    scheduler = {"host": _LOOPBACK, "dashboard": True, "dashboard_address": f"{_LOOPBACK}:0"}
    config = {"distributed.scheduler.allowed-failures": _TRIES - 1, **CARE}
    with dask.config.set(config), ExitStack() as started:
        with started_without_interrupts():
            cluster = started.enter_context(
                SpecCluster(
                    spec, {"cls": Scheduler, "options": scheduler}, silence_logs=logging.CRITICAL
                )
            )
        yield started.enter_context(Client(cluster))


@contextmanager
def joined_cluster(address: str) -> Iterator[Client]:
    """Connect to the cluster of a running scheduler; raises `UsageError` if none answers."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": f"{_CONNECT_SECONDS}s"}),
        silence_logging_cmgr(logging.CRITICAL),
    ):
        try:
            client = Client(address, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address}; start one with 'dask scheduler' and give "
                "the address that it prints"
            ) from error
        with client:
            yield client
