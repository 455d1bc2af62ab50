"""Memory and disk limits of a job, checked before the work in one place for all readers."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import psutil

from pmtool.errors import InputError, MemoryBudgetError, OutputError
from pmtool.system.cgroups import cpu_grant, memory_grant
from pmtool.system.units import amount

MAX_INPUT = 8 * 2**30
"""Largest unpacked size of an input's voxels, in bytes, unless large inputs are allowed."""
MAX_DEFLATION = 1032
"""Largest number of bytes that one deflated byte, as in gzip and zip, can unpack to."""


def check_input(name: str, size: int, *, allow_large: bool = False) -> None:
    """Refuse an input before anything is allocated for it.

    Parameters
    ----------
    name
        Name of the input, for messages.
    size
        Declared size of its voxels, unpacked, in bytes.
    allow_large
        Lift `MAX_INPUT`.

    Raises
    ------
    MemoryBudgetError
        If it is larger than `MAX_INPUT` or than the free memory.
    """
    if size > MAX_INPUT and not allow_large:
        raise MemoryBudgetError(
            f"{name} unpacks to {amount(size)}, more than the {amount(MAX_INPUT)} that are "
            "read unasked; lift the limit with --allow-large"
        )
    check_memory(size, name)


def check_unpacked(name: str, packed: int, unpacked: int, ratio: float = MAX_DEFLATION) -> None:
    """Refuse data that cannot unpack to the size claimed; raises `InputError`."""
    if unpacked > packed * ratio:
        raise InputError(
            f"{name} is truncated or damaged: its {packed} bytes cannot hold the {unpacked} that "
            "it claims; copy it again"
        )


def check_memory(needed: int, what: str) -> None:
    """Raise `MemoryBudgetError` unless ``needed`` more bytes are free."""
    free = free_memory()
    if needed > free:
        raise MemoryBudgetError(
            f"{what} needs {amount(needed)} of memory and {amount(free)} are free; end other "
            "programs or take a larger machine"
        )


def check_disk(files: Mapping[Path, int]) -> None:
    """Raise `OutputError` if a disk cannot hold the files to be written, given with their sizes."""
    by_disk: dict[int, list[Path]] = {}
    for path in files:
        by_disk.setdefault(path.parent.stat().st_dev, []).append(path)
    for paths in by_disk.values():
        folder, needed = paths[-1].parent, sum(files[path] for path in paths)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise OutputError(
                f"{folder} has {amount(free)} free and up to {amount(needed)} will be written; "
                "make room or choose another disk"
            )


def total_memory() -> int:
    """Memory, bytes, of the machine, or of the container or cluster job that this process is in."""
    return int(min(psutil.virtual_memory().total, memory_grant().total))


def free_memory() -> int:
    """Bytes that this process may still allocate, within `total_memory` and ``ulimit -v``."""
    free = int(min(psutil.virtual_memory().available, memory_grant().free))
    process = psutil.Process()
    if not psutil.LINUX:
        return free
    limit, _ = process.rlimit(psutil.RLIMIT_AS)
    if limit == psutil.RLIM_INFINITY:
        return free
    return min(free, max(0, limit - process.memory_info().vms))


def cpu_count() -> int:
    """Number of CPUs that this process may use, by its affinity and its quota."""
    if hasattr(os, "sched_getaffinity"):
        return math.ceil(min(len(os.sched_getaffinity(0)), cpu_grant()))
    return os.cpu_count() or 1
