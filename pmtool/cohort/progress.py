"""The progress of a cohort."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from typing import Any

from pmtool.cohort.plan import Sizes
from pmtool.cohort.result import Result
from pmtool.system.units import duration


class Tally:
    """Counts finished cases and generated slices; may be called from several threads.

    Parameters
    ----------
    sizes
        Sizes of the cases.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.left = {name: size.generated if size else 0 for name, size in sizes.items()}
        self.total = len(sizes)
        self.counts: Counter[str] = Counter()
        self._under_way = defaultdict[str, float](float)
        self._generated = 0.0
        self._start = time.monotonic()
        self._lock = threading.Lock()

    @property
    def finished(self) -> int:
        """Number of finished cases."""
        return sum(self.counts.values())

    def tell(self, name: str, slices: float) -> None:
        """Count slices of a case, unless the case is finished: events may arrive late."""
        with self._lock:
            if name in self.left:
                self._under_way[name] += slices

    def finish(self, result: Result) -> None:
        """Count a finished case."""
        with self._lock:
            self.counts[result.status] += 1
            self._generated += result.generated
            self._under_way.pop(result.name, None)
            self.left.pop(result.name, None)

    def state(self) -> dict[str, Any]:
        """Counts of cases by status, slices per second and seconds left, as plain JSON values."""
        with self._lock:
            under_way = dict(self._under_way)
            generated = self._generated + sum(under_way.values())
            left = sum(max(n - under_way.get(name, 0), 0) for name, n in self.left.items())
        rate = generated / max(time.monotonic() - self._start, 1e-9)
        return {
            "cases": self.total,
            "finished": self.finished,
            "failed": self.counts["failed"],
            "present": self.counts["present"],
            "slices_per_second": round(rate, 3),
            "seconds_left": round(left / rate) if rate else None,
        }

    def __str__(self) -> str:
        state = self.state()
        left = state["seconds_left"]
        remaining = "" if left is None else f", {duration(left)} left"
        return (
            f"{state['finished']}/{state['cases']} cases, {state['failed']} failed, "
            f"{state['slices_per_second']:.2f} slices/s{remaining}"
        )
