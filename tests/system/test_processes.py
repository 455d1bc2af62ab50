"""Machines on which no processes can work together."""

from __future__ import annotations

import errno
import subprocess
import sys
from contextlib import AbstractContextManager
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

from pmtool.cohort.cluster import local_cluster
from pmtool.errors import UsageError
from pmtool.evaluation.run import _mapper
from pmtool.system.processes import started_without_interrupts
from pmtool.training.run import Data, Machine, train
from pmtool.training.settings import Settings


@pytest.fixture(autouse=True)
def no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(context: BaseContext) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(BaseContext, "Lock", refuse)


@pytest.mark.parametrize("start", [lambda: _mapper(2), lambda: local_cluster(1, 1 << 30)])
def test_workers_are_refused_before_they_start(start: Any) -> None:
    context: AbstractContextManager[Any] = start()
    told = r"/dev/shm .* \(Read-only file system\); give --workers"
    with pytest.raises(UsageError, match=told), context:
        pytest.fail("workers were started")


def test_training(tmp_path: Path) -> None:
    data, machine = Data([tmp_path]), Machine("cpu", "1", workers=1)
    with pytest.raises(UsageError, match="give --workers 0"):
        train(data, tmp_path / "run", Settings(), machine, lambda label, share: None)
    assert not (tmp_path / "run").exists()


def test_one_process_needs_no_others() -> None:
    with _mapper(1) as mapper:
        assert list(mapper([])) == []


def test_processes_without_interrupts() -> None:
    code = "import signal; print({1, 2} <= signal.pthread_sigmask(signal.SIG_BLOCK, []))"

    def is_spared() -> bool:
        return subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"

    with started_without_interrupts():
        assert is_spared()
    assert not is_spared()
