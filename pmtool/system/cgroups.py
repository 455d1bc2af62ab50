"""Memory that Linux grants a control group: the processes of a container or of a cluster's job."""

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


class Grant(NamedTuple):
    """Bytes, infinite where there is no limit: in all, and those that are still free."""

    total: float
    free: float


def memory_grant() -> Grant:
    """The smallest of the groups that this process is in, each within the next."""
    grants = [Grant(math.inf, math.inf), *_grants()]
    return Grant(*map(min, zip(*grants, strict=True)))


def _grants() -> Iterator[Grant]:
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root, names = (_ROOT / "memory", _FIRST) if kinds else (_ROOT, _SECOND)
        group = Path(path).relative_to("/")
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError, KeyError):  # a group of no limit, or out of sight
                yield _grant(root / folder, *names)


def _grant(folder: Path, limit: str, use: str, cache: str) -> Grant:
    total, used = (int((folder / name).read_text()) for name in (limit, use))
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return Grant(total, max(0, total - used + int(stat[cache])))
