"""`pmtool train` from end to end: stopped, killed, resumed, refused."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from pmtool import commands
from pmtool.bundle import DEFAULT, Bundle
from pmtool.cli import cli
from pmtool.console import INTERRUPTED, run_command
from pmtool.network.inference import load_network
from pmtool.phantom import chest_phantom
from pmtool.training.checkpoint import CHECKPOINT, load_checkpoint, load_state
from pmtool.training.folder import SCANS, SETTINGS
from pmtool.training.log import LOG
from pmtool.training.settings import load_settings
from pmtool.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = """
network: {channels: 4, mixtures: 2, encoder: 4}
crops: {size: 16}
encoder: {steps: 2, patches: 4, warmup: 1, averaging: 0.5}
optimiser: {steps: 4, warmup: 2, averaging: 0.5, dropout: 0.5}
validation: {every: 3, log_every: 1, patches: 4, share: 0.3}
"""
JUDGED = ["2", "3", "6"]
"""Steps with a validation, of which the first is the last of the encoder's phase."""
TIMES = ("seconds", "patches_per_second")


def write_scans(folder: Path, number: int = 3, first: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in range(first, first + number):
        phantom = chest_phantom(32, 5 + seed, (11.0, 11.0, 1.25), seed=seed)
        sitk.WriteImage(phantom, str(folder / f"{seed}.nrrd"))
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scans(tmp_path_factory.mktemp("given") / "scans")


@pytest.fixture(scope="module")
def given(scans: Path) -> list[str]:
    """Arguments but for the run's folder."""
    config = scans.parent / "tiny.yaml"
    config.write_text(TINY)
    options = ("--config", config, "--cache", scans.parent / "cache", "--accelerator", "cpu")
    return ["train", "--data", str(scans), *map(str, options)]


def train(given: list[str], out: Path, *others: object) -> int:
    return run_command(cli, [*given, "--out", str(out), *map(str, others)])


@pytest.fixture(scope="module")
def whole(given: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert train(given, out) == 0
    torch.set_num_threads(threads)
    return out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def rows(out: Path) -> list[dict[str, str]]:
    """The log but for the times."""
    found = csv.DictReader((out / LOG).read_text().splitlines())
    return [{name: text for name, text in row.items() if name not in TIMES} for row in found]


def assert_equal_runs(one: Path, other: Path) -> None:
    """The same weights, bit by bit, and the same log."""
    states = [load_state(one), load_state(other)]
    for name in ("network", "averaged"):
        first, second = (state[name] for state in states if state)
        for key, tensor in first.items():
            torch.testing.assert_close(second[key], tensor, rtol=0, atol=0, msg=key)
    assert rows(one) == rows(other)


class TestRun:
    def test_what_a_run_leaves(self, whole: Path, scans: Path) -> None:
        names = {path.name for path in whole.iterdir()}
        assert names == {CHECKPOINT, LOG, SCANS, SETTINGS, "samples", "tensorboard"}
        lines = rows(whole)
        assert [line["step"] for line in lines] == list("123456")
        assert [line["patches"] for line in lines] == ["4", "8", "10", "12", "14", "16"]
        judged = [line["step"] for line in lines if line["validation_midpoint_mae_hu"]]
        assert judged == JUDGED
        assert all(float(line["training_bits"]) > 0 for line in lines)
        split = json.loads((whole / SCANS).read_text())
        sides = [sorted(split[side].values()) for side in ("training", "validation")]
        assert sorted(sides[0] + sides[1]) == [str(scans / f"{n}.nrrd") for n in range(3)]
        assert len(sides[1]) == 1
        assert load_settings("compact", whole / SETTINGS).optimiser.steps == 4

    def test_checkpoint_holds_the_averaged_network(self, whole: Path) -> None:
        state = load_state(whole)
        assert state is not None
        network = load_checkpoint(whole / CHECKPOINT)
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, state["averaged"][name], rtol=0, atol=0)
        assert any(
            (state["network"][name] != tensor).any() for name, tensor in state["averaged"].items()
        )

    def test_pictures(self, whole: Path) -> None:
        pictures = sorted((whole / "samples").iterdir())
        assert [picture.name for picture in pictures] == [f"000000{n}.png" for n in JUDGED]
        first, last = (np.asarray(Image.open(path)) for path in (pictures[0], pictures[-1]))
        assert first.shape == last.shape == (4 * (3 * 16 + 4), 4 * (3 * 16 + 4))
        half = first.shape[1] // 2
        np.testing.assert_array_equal(first[:, :half], last[:, :half])  # above and truth
        assert (first[:, half:] != last[:, half:]).any()

    def test_tensorboard(self, whole: Path) -> None:
        events = EventAccumulator(str(whole / "tensorboard")).Reload()
        assert [event.step for event in events.Scalars("validation_bits")] == [2, 3, 6]
        assert [event.step for event in events.Images("samples")] == [2, 3, 6]

    def test_it_says_what_it_does(
        self, given: list[str], out: Path, whole: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert train(given, out) == 0
        said = capsys.readouterr()
        assert said.out == ""
        for part in (
            "2 scans of 2 patients",
            "1 scans of 1 patients",
            "0 skipped",
            "4 channels",
            "on cpu, bf16-mixed",
            "steps 0 to 6 on crops of 16x16",
            "encoder, step 2 of 2",
            f"into {out}",
            "step 6 of 6",
        ):
            assert part in said.err
        assert_equal_runs(out, whole)

    def test_without_an_encoder(self, given: list[str], out: Path) -> None:
        assert train(given, out, "-q", "--set", "network.encoder=0") == 0
        assert {line["training_midpoint_bits"] for line in rows(out)} == {""}
        assert load_checkpoint(out / CHECKPOINT).hyperparameters.encoder == 0

    def test_it_learns(self, given: list[str], out: Path, whole: Path) -> None:
        changes = ("steps=30", "dropout=0", "learning_rate=0.01")
        same = [part for change in changes for part in ("--set", f"optimiser.{change}")]
        rarely = [
            part for name in ("every", "log_every") for part in ("--set", f"validation.{name}=30")
        ]
        assert train(given, out, "-q", *same, *rarely) == 0
        after = rows(out)[-1]
        before = rows(whole)[2]
        assert float(after["validation_bits"]) < float(before["validation_bits"]) - 0.1


class TestResume:
    def test_killed(self, given: list[str], out: Path, whole: Path) -> None:
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
        self,
        number: int,
        given: list[str],
        out: Path,
        whole: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        step = Trainer.train_step

        def interrupted(trainer: Trainer, crops: Tensor) -> None:
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

    def test_a_finished_run_is_left_alone(self, given: list[str], out: Path, whole: Path) -> None:
        shutil.copytree(whole, out)
        assert train(given, out, "--resume") == 0
        assert (out / CHECKPOINT).read_bytes() == (whole / CHECKPOINT).read_bytes()
        assert rows(out) == rows(whole)

    def test_before_the_first_checkpoint(self, given: list[str], out: Path, whole: Path) -> None:
        shutil.copytree(whole, out)
        (out / CHECKPOINT).unlink()
        assert train(given, out, "--resume") == 0
        assert_equal_runs(out, whole)

    def test_refusals(
        self,
        given: list[str],
        out: Path,
        whole: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        shutil.copytree(whole, out)
        others = write_scans(tmp_path / "others", first=3, number=1)
        (tmp_path / "damaged").mkdir()
        damaged = shutil.copytree(whole, tmp_path / "damaged" / "run")
        (damaged / CHECKPOINT).write_bytes(b"no checkpoint")
        for code, part, arguments in (
            (6, f"{out} holds a run: go on with --resume", ()),
            (2, "begun with another optimiser.steps:", ("--resume", "--set", "optimiser.steps=9")),
            (2, "begun with another network.channels", ("--resume", "--set", "network.channels=8")),
            (2, "the scans are not those that", ("--resume", "--data", others)),
            (3, f"{damaged / CHECKPOINT} is damaged", ("--resume", "--out", damaged)),
        ):
            assert train(given, out, *arguments) == code
            said = capsys.readouterr().err.splitlines()[-1]
            assert part in said
        assert (out / CHECKPOINT).read_bytes() == (whole / CHECKPOINT).read_bytes()


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file can grow beyond a number of bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestStart:
    """Training that goes on from the weights of another run, or of a model."""

    def steps(self, number: int) -> list[str]:
        return ["--set", f"encoder.steps={number}", "--set", f"optimiser.steps={number}"]

    def test_a_checkpoint(self, given: list[str], out: Path, whole: Path) -> None:
        """Adam's first step from a checkpoint is small: the midpoint is at once as good."""
        start = ("--start", whole / CHECKPOINT, *self.steps(1), "--set", "validation.every=1")
        assert train(given, out, *start, "--set", "encoder.learning_rate=1e-9") == 0
        first, last = rows(out)[0], rows(whole)[-1]
        name = "validation_midpoint_bits"
        assert float(first[name]) == pytest.approx(float(last[name]), abs=1e-4)

    def test_killed_before_the_first_step(self, given: list[str], out: Path, whole: Path) -> None:
        """The run keeps what it started from: it goes on without --start."""
        start = ("--start", whole / CHECKPOINT)
        assert train(given, out, *start) == 0
        other = out.with_name("other")

        def killed(trainer: Trainer, crops: Tensor) -> None:
            raise SystemError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "train_step", killed)
            assert train(given, other, *start) == 1
        assert train(given, other, "--resume") == 0
        assert_equal_runs(other, out)

    def test_the_model_that_ships(self, given: list[str], out: Path) -> None:
        """Its folded weights are weights of the network in training: same function."""
        network = Bundle.load().hyperparameters.to_json()
        same = [part for n, v in network.items() for part in ("--set", f"network.{n}={v}")]
        still = ("--set", "encoder.learning_rate=1e-12", "--set", "optimiser.learning_rate=1e-12")
        assert train(given, out, "--start", DEFAULT, *same, *still, *self.steps(1)) == 0
        slices = torch.rand(3, 1, 1, 16, 16) - 0.5
        found, expected = load_checkpoint(out / CHECKPOINT), load_network(Bundle.load())
        with torch.no_grad():
            for one, other in zip(found(*slices), expected(*slices), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)

    def test_refusals(
        self, given: list[str], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for code, part, start in (
            (3, "cannot be read", tmp_path / "missing.pt"),
            (3, "is not a checkpoint", given[given.index("--config") + 1]),
            (3, "no model was found in", tmp_path),
            (2, "is another network: set network.channels=16", DEFAULT),
        ):
            assert train(given, out, "--start", start) == code
            assert part in capsys.readouterr().err
            assert not (out / CHECKPOINT).exists()


class TestErrors:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        return tmp_path / "data"

    @pytest.fixture
    def given_data(self, given: list[str], data: Path, tmp_path: Path) -> list[str]:
        """Arguments with other scans."""
        config = given[given.index("--config") + 1]
        cache = str(tmp_path / "cache")
        return ["train", "--data", str(data), "--config", config, "--cache", cache]

    def test_no_ct(
        self, given_data: list[str], data: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert train(given_data, out) == 3
        assert f"{data} is no folder" in capsys.readouterr().err
        data.mkdir()
        assert train(given_data, out) == 3
        assert f"pmtool: no CT was found in {data}\n" in capsys.readouterr().err
        (data / "bad.nrrd").write_bytes(b"NRRD0004\n")
        assert train(given_data, out) == 3
        assert "1 could not be used, such as" in capsys.readouterr().err

    def test_other_modality(
        self, given_data: list[str], data: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_scans(data)
        image = sitk.GetImageFromArray(np.zeros((1, 16, 16), np.int16))
        image.SetMetaData("0008|0060", "PT")
        sitk.WriteImage(image, str(data / "pet.dcm"))
        assert train(given_data, out) == 5
        assert f"{data / 'pet.dcm'} is of modality PT, not CT" in capsys.readouterr().err

    def test_thick_and_corrupt_scans(
        self, given_data: list[str], data: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_scans(data)
        thick = chest_phantom(32, 5, (11.0, 11.0, 5.0))
        sitk.WriteImage(thick, str(data / "thick.nrrd"))
        (data / "bad.nrrd").write_bytes(b"NRRD0004\n")
        assert train(given_data, out, "--set", "optimiser.steps=1") == 0
        said = capsys.readouterr().err
        assert "warning: 1 scans have slices thicker or further apart than 3 mm" in said
        assert "2 skipped" in said
        told = [line for line in said.splitlines() if line.startswith("skipped: ")]
        listed = json.loads((out / SCANS).read_text())["skipped"]
        assert told == [f"skipped: {sentence}" for sentence in listed]
        assert ["bad.nrrd" in listed[0], "thick.nrrd" in listed[1]] == [True, True]

    def test_patients(
        self, given_data: list[str], data: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_scans(data, 1)
        assert train(given_data, out) == 2
        assert "--validation" in capsys.readouterr().err
        assert train(given_data, out, "--validation", data) == 2
        assert "patient 0 is in both" in capsys.readouterr().err
        held = write_scans(data.parent / "held", 1, first=1)
        assert train(given_data, out, "--validation", held, "--set", "optimiser.steps=1") == 0
        split = json.loads((out / SCANS).read_text())
        assert list(split["validation"].values()) == [str(held / "1.nrrd")]

    def test_machine(self, given: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        assert train(given, out, "--accelerator", "cuda") == 2
        assert "accelerator cuda with devices auto cannot be had" in capsys.readouterr().err
        assert not out.exists()

    @pytest.mark.parametrize("name", ["lightning_fabric", "pydicom", "yaml"])
    def test_a_missing_package(
        self,
        name: str,
        given: list[str],
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(commands, "find_spec", lambda x: None if x == name else find_spec(x))
        assert train(given, out) == 2
        assert capsys.readouterr().err == (
            f"pmtool: pmtool train needs {name}: pip install 'pmtool[train]'\n"
        )

    def test_a_full_disk(
        self, given: list[str], out: Path, whole: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with file_limit(200_000):
            assert train(given, out) == 6
        assert f"{out / CHECKPOINT} cannot be written" in capsys.readouterr().err
        assert not [path for path in out.iterdir() if "checkpoint" in path.name]
        assert train(given, out, "--resume") == 0
        assert_equal_runs(out, whole)


def test_two_processes_train_as_one(given: list[str], tmp_path: Path) -> None:
    """Each takes a part of a step's crops; without dropout rounding alone differs."""
    changes = ("optimiser.steps=2", "optimiser.dropout=0", "optimiser.precision=32-true")
    same = [part for change in changes for part in ("--set", change)]
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(given, one, *same) == 0
    command = [sys.executable, "-m", "pmtool", *given, "--out", str(two), *same, "--devices", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    states = [load_state(one), load_state(two)]
    first, second = (state["averaged"] for state in states if state)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    for line, other in zip(rows(one), rows(two), strict=True):
        for name in ("training_bits", "validation_bits"):
            assert (not line[name] and not other[name]) or float(line[name]) == pytest.approx(
                float(other[name]), abs=1e-3
            )
