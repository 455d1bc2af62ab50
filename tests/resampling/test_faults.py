"""A machine that fails: each fault is really made, in a process of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from pmtool.phantom.chest import chest_phantom

pytest.importorskip("onnxruntime")

PATIENCE = 60.0


class Folder:
    """A small CT and its mask in a folder, and the command that resamples both."""

    def __init__(self, path: Path) -> None:
        self.path = path
        image = chest_phantom(size=32, slices=4, spacing=(0.7, 0.7, 2.5), seed=1)
        sitk.WriteImage(image, str(path / "ct.nrrd"))
        sitk.WriteImage(sitk.Cast(image > -500, sitk.sitkUInt8), str(path / "mask.nrrd"))

    def start(self, *more: object, **settings: Any) -> subprocess.Popen[str]:
        """Begin to resample."""
        wanted = "--seg mask.nrrd --seg-out seg.nii.gz --preview a.png --statistics s.json"
        arguments = ("resample", "ct.nrrd", "out.nrrd", "--spacing", 0.625, "--threads", 1)
        command = (sys.executable, "-m", "pmtool", *arguments, *wanted.split(), *more)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
        words = list(map(str, command))
        return subprocess.Popen(words, cwd=self.path, text=True, **streams)

    def run(self, *more: object, **settings: Any) -> tuple[int, list[str]]:
        """Resample; the exit code and the lines on standard error but for warnings."""
        return ended(self.start(*more, **settings))

    def files(self) -> dict[str, bytes]:
        """What the folder holds, in folders below it too."""
        every = sorted(path for path in self.path.rglob("*") if path.is_file())
        return {str(path.relative_to(self.path)): path.read_bytes() for path in every}

    def names(self) -> set[str]:
        return {path.name for path in self.path.iterdir()}

    def wait_for(self, pattern: str, process: subprocess.Popen[str]) -> None:
        """Until there is a file like this, or the process has ended."""
        end = time.monotonic() + PATIENCE
        while not any(self.path.glob(pattern)) and process.poll() is None:
            assert time.monotonic() < end, pattern
            time.sleep(0.001)


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    _, told = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in (told or "")
    lines = [line for line in (told or "").splitlines() if line]
    return process.returncode, [line for line in lines if not line.startswith("warning: ")]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The files of a run that nothing disturbs, and its seconds."""
    folder, begin = Folder(tmp_path_factory.mktemp("undisturbed")), time.monotonic()
    code, _ = folder.run()
    assert code == 0
    return folder.files(), time.monotonic() - begin


def check_resumed(folder: Folder, expected: dict[str, bytes]) -> None:
    """The run goes on to the same bytes, and leaves nothing else."""
    assert folder.run("--resume", "-q") == (0, [])
    found = folder.files()
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


KILLS = ["out.nrrd.partial/*.npy", "seg.nii.gz", "s.json", "out.nrrd", "out.nrrd.json"]


@pytest.mark.parametrize("pattern", KILLS)
def test_killed_at_a_step(
    folder: Folder, undisturbed: tuple[dict[str, bytes], float], pattern: str
) -> None:
    process = folder.start()
    folder.wait_for(pattern, process)
    process.kill()
    process.communicate()
    check_resumed(folder, undisturbed[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_killed_at_a_random_moment(
    folder: Folder, undisturbed: tuple[dict[str, bytes], float], number: int
) -> None:
    expected, seconds = undisturbed
    process = folder.start()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=random.Random(number).uniform(0.2, 1.0) * seconds)
    process.kill()
    process.communicate()
    check_resumed(folder, expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    folder: Folder, undisturbed: tuple[dict[str, bytes], float], number: int
) -> None:
    process = folder.start()
    folder.wait_for("out.nrrd.partial/*.npy", process)
    process.send_signal(number)
    code, told = ended(process)
    assert code == 130
    assert told[-1] == "pmtool: interrupted"
    assert "--resume" in told[-2]
    assert folder.names() == {"ct.nrrd", "mask.nrrd", "out.nrrd.partial"}
    assert folder.run()[0] == 2
    check_resumed(folder, undisturbed[0])


@pytest.mark.parametrize("pause", [0.0, 0.03])
def test_interrupted_again_and_again(folder: Folder, pause: float) -> None:
    """As by an impatient user, or by `timeout`, which signals the process and then its group."""
    process = folder.start()
    folder.wait_for("out.nrrd.partial/*.npy", process)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        time.sleep(pause)
    code, told = ended(process)
    assert code == 130
    assert told[-1] == "pmtool: interrupted"


def test_interrupted_before_the_first_slice(folder: Folder) -> None:
    process = folder.start()
    folder.wait_for("out.nrrd.partial/key.json", process)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
    assert folder.names() == {"ct.nrrd", "mask.nrrd"}


def test_two_processes(folder: Folder, undisturbed: tuple[dict[str, bytes], float]) -> None:
    first = folder.start()
    folder.wait_for("out.nrrd.partial/*.npy", first)
    first.send_signal(signal.SIGSTOP)
    for more in ((), ("--resume",), ("--overwrite",)):
        code, told = folder.run(*more)
        assert code == 6
        assert len(told) == 1
        assert "another process is writing to out.nrrd.partial" in told[0]
    first.send_signal(signal.SIGCONT)
    assert ended(first)[0] == 0
    assert folder.files() == undisturbed[0]
    assert folder.run("--resume") == (0, ["out.nrrd is complete"])


def test_input_that_vanishes(folder: Folder, undisturbed: tuple[dict[str, bytes], float]) -> None:
    process = folder.start()
    folder.wait_for("out.nrrd.partial/*.npy", process)
    (folder.path / "ct.nrrd").unlink()
    (folder.path / "mask.nrrd").write_bytes(b"changed")
    assert ended(process)[0] == 0
    for name in ("out.nrrd", "seg.nii.gz"):
        assert folder.files()[name] == undisturbed[0][name]


def test_input_that_changes_before_resumption(folder: Folder) -> None:
    process = folder.start()
    folder.wait_for("out.nrrd.partial/*.npy", process)
    process.kill()
    process.communicate()
    image = sitk.ReadImage(str(folder.path / "ct.nrrd"))
    image[0, 0, 0] += 1
    sitk.WriteImage(image, str(folder.path / "ct.nrrd"))
    code, told = folder.run("--resume")
    assert code == 2
    assert "another input" in told[0]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Folder]]:
    """A folder on a small disk of its own, which can be mounted anew."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str, again: bool = False) -> Folder:
        kind = ["-o", f"remount,{options}"] if again else ["-t", "tmpfs", "-o", options, "tmpfs"]
        done = subprocess.run(["mount", *kind, place], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("a disk can only be mounted by root")
        return Folder(place)

    yield mount
    subprocess.run(["umount", "-l", place], capture_output=True, check=False)


def test_full_disk(
    disk: Callable[..., Folder], undisturbed: tuple[dict[str, bytes], float]
) -> None:
    folder = disk("size=1m")
    process = folder.start()
    folder.wait_for("out.nrrd.partial/*.npy", process)
    process.send_signal(signal.SIGSTOP)
    with suppress(OSError), (folder.path / "junk").open("wb", buffering=0) as junk:
        while junk.write(bytes(4096)):
            pass
    process.send_signal(signal.SIGCONT)
    code, told = ended(process)
    assert code == 6
    assert "cannot be written: No space left on device" in told[-1]
    assert folder.names() == {"ct.nrrd", "mask.nrrd", "junk", "out.nrrd.partial"}
    (folder.path / "junk").unlink()
    check_resumed(folder, undisturbed[0])


def test_disk_that_is_too_small(disk: Callable[..., Folder]) -> None:
    folder = disk("size=40k")
    code, told = folder.run()
    assert code == 6
    assert len(told) == 1
    assert "make room or choose another disk" in told[0]
    assert folder.names() == {"ct.nrrd", "mask.nrrd"}


@pytest.mark.parametrize("suffix", ["nrrd", "nii", "nii.gz", "mha", "mhd"])
def test_files_that_may_not_grow(folder: Folder, suffix: str) -> None:
    """ITK says nothing where the end of a file could not be written."""
    pytest.importorskip("resource")
    limit = "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))"
    code = f"{limit}; from pmtool.main import main; main()"
    arguments = ["phantom", f"out.{suffix}", "--size", "32", "--slices", "5"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (6, 1)
    assert "cannot be written" in done.stderr
    assert folder.names() == {"ct.nrrd", "mask.nrrd"}


def test_disk_that_is_read_only(disk: Callable[..., Folder]) -> None:
    folder = disk("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", folder.path], check=True)
    code, told = folder.run()
    assert code == 6
    assert len(told) == 1
    assert "not writable" in told[0]


@pytest.mark.parametrize("megabytes", [300, 400, 500])
def test_too_little_memory(folder: Folder, megabytes: int) -> None:
    resource = pytest.importorskip("resource")
    limit = megabytes << 20

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    code, told = folder.run("-q", preexec_fn=limited)
    if told and "OpenBLAS" in told[-1]:
        pytest.skip("numpy itself does not start")
    assert code == 7
    assert "memory" in told[-1]
    assert folder.names() - {"out.nrrd.partial"} == {"ct.nrrd", "mask.nrrd"}


def test_nobody_listens(folder: Folder, undisturbed: tuple[dict[str, bytes], float]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = folder.start(stderr=writing, stdout=writing)
    os.close(writing)
    assert ended(process)[0] == 0
    assert folder.files() == undisturbed[0]


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(
    folder: Folder, undisturbed: tuple[dict[str, bytes], float], closed: str
) -> None:
    process = folder.start()
    process.kill()
    process.communicate()
    words = " ".join(map(str, process.args))  # type: ignore[arg-type]
    done = subprocess.run(f"{words} {closed}", shell=True, cwd=folder.path, check=False)
    assert done.returncode == 0
    assert folder.files() == undisturbed[0]


def _without_privileges() -> None:
    """Take from root the right to read and write everything; others have no such right."""
    import ctypes

    for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


CLOSED = {
    "input": (3, "ct.nrrd cannot be read (Permission denied)", "ct.nrrd", "out.nrrd"),
    "mask": (3, "mask.nrrd cannot be read (Permission denied)", "mask.nrrd", "out.nrrd"),
    "folder of outputs": (6, "cannot be written: Permission denied", "below", "below/out.nrrd"),
    "folder for a series": (6, "below is not writable", "below", "below/"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="privileges are dropped as in Linux")
@pytest.mark.parametrize("name", CLOSED)
def test_what_may_not_be_opened(folder: Folder, name: str) -> None:
    """It is no error of usage, and an output that may not be written is no unreadable input."""
    code, message, closed, output = CLOSED[name]
    (folder.path / "below").mkdir()
    (folder.path / closed).chmod(0)
    command = ("resample", "ct.nrrd", output, "--spacing", "1.25", "--seg", "mask.nrrd")
    done = subprocess.run(
        [sys.executable, "-m", "pmtool", *command],
        cwd=folder.path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_without_privileges,
    )
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert message in done.stderr
    assert folder.names() == {"ct.nrrd", "mask.nrrd", "below"}


@pytest.mark.skipif(sys.platform != "linux", reason="privileges are dropped as in Linux")
def test_an_output_need_not_be_readable(folder: Folder) -> None:
    (folder.path / "out.nrrd").touch(mode=0)
    assert folder.run("--overwrite", "-q", preexec_fn=_without_privileges) == (0, [])
