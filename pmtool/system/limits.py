"""What a job may take of memory and disk, told before the work: one place for all readers."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil

from pmtool.errors import InputError, MemoryBudgetError, OutputError
from pmtool.system.cgroups import memory_grant, processor_grant
from pmtool.system.units import gibibytes

MAX_INPUT = 8 * 2**30
"""Bytes of an input's voxels, unpacked, that are read unless large inputs are allowed."""
MAX_DEFLATION = 1032
"""No deflated byte, as in gzip and zip, unpacks to more."""


def check_input(name: str, size: int, *, allow_large: bool = False) -> None:
    """Refuse an input before anything is allocated for it.

    Parameters
    ----------
    name
        Of the input, for messages.
    size
        Bytes that it says its voxels take unpacked.
    allow_large
        Lift `MAX_INPUT`.

    Raises
    ------
    MemoryBudgetError
        If it is larger than `MAX_INPUT` or than the memory that is free.
    """
    if size > MAX_INPUT and not allow_large:
        raise MemoryBudgetError(
            f"{name} unpacks to {gibibytes(size)}, more than the {gibibytes(MAX_INPUT)} that are "
            "read unasked; lift the limit with --allow-large"
        )
    check_memory(size, name)


def check_unpacked(name: str, packed: int, unpacked: int, ratio: float = MAX_DEFLATION) -> None:
    """Refuse data that cannot unpack to what they claim; raises `InputError`."""
    if unpacked > packed * ratio:
        raise InputError(
            f"{name} is truncated or damaged: its {packed} bytes cannot hold the {unpacked} that "
            "it claims; copy it again"
        )


def check_memory(needed: int, what: str) -> None:
    """Raise `MemoryBudgetError` if so many more bytes are not free."""
    free = free_memory()
    if needed > free:
        raise MemoryBudgetError(
            f"{what} needs {gibibytes(needed)} of memory and {gibibytes(free)} are free; end other "
            "programs or take a larger machine"
        )


def check_disk(files: Mapping[Path, int]) -> None:
    """Raise `OutputError` if a disk cannot hold the files, of so many bytes, to be written."""
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for path, size in files.items():
        device = path.parent.stat().st_dev
        folders[device] = path.parent
        needed[device] = needed.get(device, 0) + size
    for device, folder in folders.items():
        free = shutil.disk_usage(folder).free
        if needed[device] > free:
            raise OutputError(
                f"{folder} has {gibibytes(free)} free and up to {gibibytes(needed[device])} will "
                "be written; make room or choose another disk"
            )


def total_memory() -> int:
    """Bytes of this machine, or of the container or the cluster's job that this process is in."""
    return int(min(psutil.virtual_memory().total, memory_grant().total))


def free_memory() -> int:
    """Bytes that this process may still allocate: of `total_memory`, and under ``ulimit -v``."""
    free = int(min(psutil.virtual_memory().available, memory_grant().free))
    process = psutil.Process()
    if not psutil.LINUX:
        return free
    limit, _ = process.rlimit(psutil.RLIMIT_AS)
    if limit == psutil.RLIM_INFINITY:
        return free
    return min(free, max(0, limit - process.memory_info().vms))


def processors() -> int:
    """Processors that this process may use, by its affinity and its share of their time."""
    if hasattr(os, "sched_getaffinity"):
        return math.ceil(min(len(os.sched_getaffinity(0)), processor_grant()))
    return os.cpu_count() or 1
