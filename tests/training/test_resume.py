"""Runs that are killed, interrupted or out of disk go on as if nothing had been."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pmtool.cli.console import INTERRUPTED
from pmtool.errors import OutputError
from pmtool.training.checkpoint import CHECKPOINT, load_state, save_checkpoint
from pmtool.training.crops import Triplets
from pmtool.training.interruption import Interruption
from pmtool.training.record import LOG
from pmtool.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

Train = Callable[..., int]
Rows = Callable[[Path], list[dict[str, str]]]
AssertEqual = Callable[[Path, Path], None]
WriteScans = Callable[..., Path]


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file can grow beyond a number of bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_scans_that_were_moved_are_the_same(
    given: list[str], out: Path, whole: Path, scans: Path, tmp_path: Path, train: Train
) -> None:
    """A copy has new times, and other programs leave files in it."""
    shutil.copytree(whole, out)
    moved = tmp_path / "moved"
    shutil.copytree(scans, moved, copy_function=shutil.copyfile)
    (moved / ".DS_Store").write_bytes(b"Bud1")
    there = [str(moved) if argument == str(scans) else argument for argument in given]
    assert train(there, out, "--resume") == 0


def test_killed(
    given: list[str], out: Path, whole: Path, train: Train, assert_equal_runs: AssertEqual
) -> None:
    """With no chance to tidy up, between the first checkpoint and the end."""
    command = [sys.executable, "-m", "pmtool", *given, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not ((out / LOG).exists() and "\n4," in (out / LOG).read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    state = load_state(out)
    assert state is not None
    assert state["step"] == 3
    assert train(given, out, "--resume") == 0
    assert_equal_runs(out, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    number: int,
    given: list[str],
    out: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    train: Train,
    assert_equal_runs: AssertEqual,
) -> None:
    step = Trainer.train_step

    def interrupted(trainer: Trainer, crops: Triplets) -> None:
        if trainer.step == 1:
            os.kill(os.getpid(), number)
        step(trainer, crops)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted)
        assert train(given, out) == INTERRUPTED
    assert "stopped at step 2; go on with --resume" in capsys.readouterr().err
    state = load_state(out)
    assert state is not None
    assert state["step"] == 2
    assert train(given, out, "--resume") == 0
    assert_equal_runs(out, whole)


def test_a_closed_terminal_is_a_request_to_stop() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
        assert interruption.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_finished_run_is_left_alone(
    given: list[str], out: Path, whole: Path, train: Train, rows: Rows
) -> None:
    shutil.copytree(whole, out)
    assert train(given, out, "--resume") == 0
    assert (out / CHECKPOINT).read_bytes() == (whole / CHECKPOINT).read_bytes()
    assert rows(out) == rows(whole)


def test_before_the_first_checkpoint(
    given: list[str], out: Path, whole: Path, train: Train, assert_equal_runs: AssertEqual
) -> None:
    shutil.copytree(whole, out)
    (out / CHECKPOINT).unlink()
    assert train(given, out, "--resume") == 0
    assert_equal_runs(out, whole)


def test_what_a_killed_process_left_is_removed(
    given: list[str], out: Path, whole: Path, train: Train
) -> None:
    shutil.copytree(whole, out)
    left = out / f".{CHECKPOINT}.1@elsewhere.tmp"
    left.write_bytes(b"half a checkpoint")
    assert train(given, out, "--resume") == 0
    assert not left.exists()


def test_a_disk_that_fails_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is replaced only once the disk has the new one."""

    def failing(descriptor: int) -> None:
        raise OSError("no disk")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", failing)
        with pytest.raises(OutputError, match=r"go on with --resume$"):
            save_checkpoint({"step": 1}, tmp_path)
    save_checkpoint({"step": 1}, tmp_path)
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OutputError, match="the last checkpoint is intact"):
        save_checkpoint({"step": 2}, tmp_path)
    assert load_state(tmp_path) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_refusals(
    given: list[str],
    out: Path,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    train: Train,
    write_scans: WriteScans,
) -> None:
    shutil.copytree(whole, out)
    others = write_scans(tmp_path / "others", first=3, number=1)
    (tmp_path / "damaged").mkdir()
    damaged = shutil.copytree(whole, tmp_path / "damaged" / "run")
    (damaged / CHECKPOINT).write_bytes(b"no checkpoint")
    other = shutil.copytree(whole, tmp_path / "damaged" / "other")
    torch.save({"step": 1}, other / CHECKPOINT)
    listed = shutil.copytree(whole, tmp_path / "damaged" / "listed")
    (listed / "scans.json").write_text("5")
    cut = shutil.copytree(whole, tmp_path / "damaged" / "cut")
    (cut / LOG).write_text((cut / LOG).read_text() + "one,2\n")
    empty = shutil.copytree(whole, tmp_path / "damaged" / "empty")
    (empty / LOG).write_text("")
    former = shutil.copytree(whole, tmp_path / "damaged" / "former")
    (former / LOG).write_text("step,loss\n1,2\n")
    thicker = shutil.copytree(whole, tmp_path / "damaged" / "thicker")
    scans = (thicker / "scans.json").read_text()
    (thicker / "scans.json").write_text(scans.replace('"thickness_mm": 1.25', '"thickness_mm": 5'))
    for code, part, arguments in (
        (6, f"{out} holds a run: go on with --resume", ()),
        (2, "begun with another optimiser.steps:", ("--resume", "--set", "optimiser.steps=9")),
        (2, "begun with another network.channels", ("--resume", "--set", "network.channels=8")),
        (2, "the scans are not those that", ("--resume", "--data", others)),
        (2, "the scans are not those that", ("--resume", "--out", thicker)),
        (3, f"{damaged / CHECKPOINT} is damaged", ("--resume", "--out", damaged)),
        (3, f"{other / CHECKPOINT} is damaged", ("--resume", "--out", other)),
        (3, f"{listed / 'scans.json'} is damaged", ("--resume", "--out", listed)),
        (3, f"{cut / LOG} is damaged: restore it, or move it away", ("--resume", "--out", cut)),
        (3, f"{empty / LOG} is damaged", ("--resume", "--out", empty)),
        (3, f"{former / LOG} has other columns", ("--resume", "--out", former)),
    ):
        assert train(given, out, *arguments) == code
        said = capsys.readouterr().err.splitlines()[-1]
        assert part in said
    assert (out / CHECKPOINT).read_bytes() == (whole / CHECKPOINT).read_bytes()


def test_a_full_disk(
    given: list[str],
    out: Path,
    whole: Path,
    capsys: pytest.CaptureFixture[str],
    train: Train,
    assert_equal_runs: AssertEqual,
) -> None:
    with file_limit(200_000):
        assert train(given, out) == 6
    assert f"{out / CHECKPOINT} cannot be written" in capsys.readouterr().err
    assert not [path for path in out.iterdir() if "checkpoint" in path.name]
    assert train(given, out, "--resume") == 0
    assert_equal_runs(out, whole)
