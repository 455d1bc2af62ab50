"""Limits that Linux sets for a control group: the processes of a container or a cluster's job."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_MEMORY_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_MEMORY_V2 = ("memory.max", "memory.current", "inactive_file")
"""Limit, use and, in ``memory.stat``, reclaimable cached files; by the version of cgroups."""
_CPU_V1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
_CPU_V2 = ("cpu.max",)
"""CPU time in a period, and the period; in version 2 both are in one file."""

_NO_LIMIT = (OSError, ValueError, KeyError)
"""Errors when reading a group that has no limit or is not visible."""


class Grant(NamedTuple):
    """Bytes in total and those still free; infinite if there is no limit."""

    total: float
    free: float


def memory_grant() -> Grant:
    """The smallest grant of the nested groups that this process is in."""
    grants = [Grant(math.inf, math.inf)]
    for folder, is_v1 in _groups("memory"):
        with suppress(*_NO_LIMIT):
            grants.append(_grant(folder, *(_MEMORY_V1 if is_v1 else _MEMORY_V2)))
    return Grant(*map(min, zip(*grants, strict=True)))


def cpu_grant() -> float:
    """CPU time that the groups of this process may use, in CPUs; possibly infinite."""
    grants = [math.inf]
    for folder, is_v1 in _groups("cpu"):
        with suppress(*_NO_LIMIT):
            texts = ((folder / name).read_text() for name in (_CPU_V1 if is_v1 else _CPU_V2))
            quota, period = map(int, " ".join(texts).split())
            if quota > 0:
                grants.append(quota / period)
    return min(grants)


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the groups, innermost first, and whether they use cgroups version 1."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and controller not in kinds.split(","):
            continue
        root = _ROOT / controller if kinds else _ROOT
        group = Path(path).relative_to("/")
        for folder in (group, *group.parents):
            yield root / folder, bool(kinds)


def _grant(folder: Path, limit: str, use: str, cache: str) -> Grant:
    total, used = (int((folder / name).read_text()) for name in (limit, use))
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return Grant(total, max(0, total - used + int(stat[cache])))
