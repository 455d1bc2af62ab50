"""Cohorts on real Dask workers with the real model, which are killed now and then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import SimpleITK as sitk

import pmtool
from pmtool.cli.console import run_command
from pmtool.cohort.cluster import local_cluster
from pmtool.images.image_file import write_image
from pmtool.main import cli
from pmtool.phantom.chest import chest_phantom

pytest.importorskip("distributed")
pytest.importorskip("onnxruntime")

SCAN = Path(__file__).parents[3] / "shared" / "data" / "scans" / "LIDC-0001.nrrd"
SECONDS = 120
POISON = """
import os, signal
from pmtool.cohort import work

def prepare_files(source, *arguments):
    if source.name.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    return unharmed(source, *arguments)

unharmed = work.__dict__.setdefault("unharmed", work.prepare_files)
work.prepare_files = prepare_files
"""


class Cohort:
    """``pmtool cohort`` in a process of its own, with its log."""

    def __init__(self, scans: Path, out: Path, *arguments: object, **environment: str) -> None:
        self.log = out.with_suffix(".jsonl")
        self.log.unlink(missing_ok=True)
        self.log.touch()
        given = ["cohort", scans, out, "--spacing=1.25", f"--log-json={self.log}", *arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pmtool", *map(str, given)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def results(self) -> dict[str, dict[str, Any]]:
        """What became of cases so far, by name."""
        lines = [json.loads(x) for x in self.log.read_text().splitlines() if x.endswith("}")]
        return {line["name"]: line for line in lines if line.get("event") == "case"}

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def end(self) -> tuple[int, str]:
        """Exit code and standard error."""
        _, told = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, told


def until(condition: Callable[[], object]) -> None:
    """Wait."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def volumes(folder: Path) -> dict[str, bytes]:
    """The outputs and sidecars below a folder."""
    files = sorted((*folder.rglob("*.nrrd"), *folder.rglob("*.nrrd.json")))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pieces of a scan where it is there, phantoms up to ten CTs, and two that are none."""
    folder = tmp_path_factory.mktemp("scans")
    for number in range(10):
        image = chest_phantom(size=32, slices=2, seed=number)
        if number < 4 and SCAN.exists():
            image = sitk.ReadImage(str(SCAN))[200:232, 240:272, 60 + 4 * number :][:, :, :2]
            image.SetSpacing((*image.GetSpacing()[:2], 2.5))
        write_image(image, folder / f"{number}.nrrd")
    write_image(sitk.Cast(image > 0, sitk.sitkUInt8), folder / "no-ct.nrrd")
    whole = (folder / "9.nrrd").read_bytes()
    (folder / "torn.nrrd").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def single(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The outputs of the CTs, resampled one by one."""
    folder = tmp_path_factory.mktemp("single")
    for number in range(10):
        pmtool.resample(scans / f"{number}.nrrd", 1.25, folder / f"{number}.nrrd", threads=1)
    return volumes(folder)


def test_a_worker_that_is_killed(scans: Path, single: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    cohort = Cohort(scans, out, "--workers=2")
    until(lambda: len(cohort.results()) >= 3 and list(out.glob("*.partial")))
    killed = cohort.workers()[0].pid
    os.kill(killed, signal.SIGKILL)
    before = set(cohort.results())
    code, told = cohort.end()
    assert code == 8
    results = cohort.results()
    assert len(results) == 12
    assert all(results[x]["worker"].split(":")[1] != str(killed) for x in set(results) - before)
    failed = {name: x["exit_code"] for name, x in results.items() if x["status"] == "failed"}
    assert failed == {"no-ct": 5, "torn": 3}
    assert told.count("failed: ") == 2
    assert "Traceback" not in told
    assert volumes(out) == single
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]

    times = {path: path.stat().st_mtime_ns for path in out.glob("*.nrrd*")}
    again = Cohort(scans, out, "--workers=2")
    assert again.end()[0] == 8
    assert sum(result["generated"] for result in again.results().values()) == 0
    assert times == {path: path.stat().st_mtime_ns for path in out.glob("*.nrrd*")}


def test_workers_are_spared_the_terminals_interrupt() -> None:
    """The command ends them; by themselves, they would show tracebacks."""
    with local_cluster(1, 1 << 30) as client:
        blocked = client.run(signal.pthread_sigmask, signal.SIG_BLOCK, [])
    assert [signal.SIGINT in signals for signals in blocked.values()] == [True]


def test_a_case_that_kills_its_workers(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("before", "poison", "remote"):
        write_image(chest_phantom(size=32, slices=2), scans / f"{name}.nrrd")
    preload = tmp_path / "preload.py"
    preload.write_text(POISON)
    environment = {"DASK_DISTRIBUTED__WORKER__PRELOAD": str(preload)}
    cohort = Cohort(scans, tmp_path / "out", "--workers=1", **environment)
    code, told = cohort.end()
    results = cohort.results()
    assert {name: result["exit_code"] for name, result in results.items()} == {
        "before": 0,
        "poison": 1,
        "remote": 0,
    }
    assert set(volumes(tmp_path / "out")) == {
        f"{name}.nrrd{ending}" for name in ("before", "remote") for ending in ("", ".json")
    }
    assert "every worker that had it died" in results["poison"]["error"]
    assert code == 8
    assert "Traceback" not in told


def test_slices_of_one_scan_on_two_workers(tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "deep" / "ct.nrrd"
    scan.parent.mkdir(parents=True)
    write_image(chest_phantom(size=32, slices=3, spacing=(1, 1, 5.0)), scan)
    cohort = Cohort(tmp_path / "scans", tmp_path / "out", "--workers=2", "--samples=2")
    code, told = cohort.end()
    assert code == 0, told
    assert cohort.results()["deep/ct"]["generated"] == 2 * 6
    expected = tmp_path / "single.nrrd"
    pmtool.resample(scan, 1.25, expected, samples=2, uncertainty=tmp_path / "sd.nrrd", threads=1)
    made = tmp_path / "out" / "deep"
    assert (made / "ct.nrrd").read_bytes() == expected.read_bytes()
    assert (made / "ct.uncertainty.nrrd").read_bytes() == (tmp_path / "sd.nrrd").read_bytes()
    assert sorted(path.name for path in made.iterdir()) == [
        "ct.nrrd",
        "ct.nrrd.json",
        "ct.uncertainty.nrrd",
    ]


class Scheduler:
    """``dask scheduler`` and ``dask worker`` on loopback."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(self.file)]
        self.processes = [self._dask(folder, "scheduler", "--port", "0", *common)]
        until(self.file.exists)
        self.processes.append(self._dask(folder, "worker", "--nthreads", "1", *common))

    def _dask(self, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
        with (folder / f"{arguments[0]}.log").open("wb") as log:
            command = [sys.executable, "-m", "dask", *arguments]
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)

    @property
    def address(self) -> str:
        """What it prints."""
        address: str = json.loads(self.file.read_text())["address"]
        return address

    def close(self) -> None:
        """End all."""
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=SECONDS)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    """Started by hand."""
    (tmp_path / "dask").mkdir()
    found = Scheduler(tmp_path / "dask")
    yield found
    found.close()


def test_a_scheduler_started_by_hand_until_it_dies(
    scheduler: Scheduler, scans: Path, single: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    cohort = Cohort(scans, out, f"--scheduler={scheduler.address}")
    until(lambda: len(cohort.results()) >= 4)
    scheduler.processes[0].kill()
    code, told = cohort.end()
    assert code == 8
    assert "the scheduler is gone" in told
    assert "Traceback" not in told
    done = [name for name, x in cohort.results().items() if x["status"] == "done"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["counts"]["done"] == len(done) >= 2
    assert summary["counts"]["open"] >= 1

    rest = Cohort(scans, out, "--workers=0", "--threads=1")
    assert rest.end()[0] == 8
    assert all(rest.results()[name]["status"] == "present" for name in done)
    assert volumes(out) == single


def test_no_scheduler_answers(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pmtool.cohort.cluster._CONNECT_SECONDS", 1)
    asked = ["cohort", str(scans), str(tmp_path / "out"), "--spacing=1.25"]
    assert run_command(cli, [*asked, "--scheduler=tcp://127.0.0.1:1"]) == 2
    assert run_command(cli, [*asked, "--scheduler=nonsense://x"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert all("no Dask scheduler answers at" in line for line in told)
    assert not list((tmp_path / "out").iterdir())
