"""Two workers do nearly twice as much as one, if there is a core for each."""

from __future__ import annotations

import importlib
from pathlib import Path

import psutil
import pytest

pytest.importorskip("distributed")
pytest.importorskip("onnxruntime")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_two_workers_against_one(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = sum(100 - used for used in psutil.cpu_percent(interval=1, percpu=True)) / 100
    if idle < 1.8:
        pytest.skip(f"{idle:.1f} cores are idle, not two")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    _, times = importlib.import_module("cohort_throughput").speed_up(12, 96, 5, 2)
    assert times >= 1.8
