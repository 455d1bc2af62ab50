"""What Linux grants a control group: the processes of a container or of a cluster's job."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = ("memory.max", "memory.current", "inactive_file")
"""Limit, use and, in ``memory.stat``, cached files that give way; by the version of cgroups."""
_FIRST_QUOTA = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
_SECOND_QUOTA = "cpu.max"
"""Time of processors in a period, and the period; in version 2 both in one file."""

_NO_LIMIT = (OSError, ValueError, KeyError)
"""What reading a group ends with that has no limit, or is out of sight."""


class Grant(NamedTuple):
    """Bytes, infinite where there is no limit: in all, and those that are still free."""

    total: float
    free: float


def memory_grant() -> Grant:
    """The smallest of the groups that this process is in, each within the next."""
    grants = [Grant(math.inf, math.inf)]
    for folder, first in _groups("memory"):
        with suppress(*_NO_LIMIT):
            grants.append(_grant(folder, *(_FIRST if first else _SECOND)))
    return Grant(*map(min, zip(*grants, strict=True)))


def processor_grant() -> float:
    """Processors whose time the groups that this process is in may take; maybe infinite."""
    grants = [math.inf]
    for folder, first in _groups("cpu"):
        with suppress(*_NO_LIMIT):
            names = _FIRST_QUOTA if first else (_SECOND_QUOTA,)
            quota, period = map(int, " ".join((folder / n).read_text() for n in names).split())
            if quota > 0:
                grants.append(quota / period)
    return min(grants)


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the groups, from the innermost on, and whether they are of the first version."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:  # no Linux
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
