"""Two workers do nearly twice as much as one, if there is a core for each."""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median
from typing import Any

import psutil
import pytest

pytest.importorskip("distributed")
pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_two_workers_against_one(script: Callable[[str], Any]) -> None:
    """Asked is 1.8; where plain processes do not reach 1.9, 95 % of what they do."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("other tests run beside it: run this file alone, it takes eight minutes")
    idle = sum(100 - used for used in psutil.cpu_percent(interval=1, percpu=True)) / 100
    if idle < 1.8:
        pytest.skip(f"{idle:.1f} cores are idle, not two")
    pairs = list(script("cohort_throughput").measure(20, 96, 5, 2, 3))
    ceiling = median(pair.ceiling for pair in pairs)
    assert median(pair.times for pair in pairs) >= min(1.8, 0.95 * ceiling)
