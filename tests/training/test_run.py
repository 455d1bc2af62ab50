"""`pmtool train` from end to end: what a run leaves, on one process and on two."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pmtool.training import run
from pmtool.training.checkpoint import CHECKPOINT, load_checkpoint, load_state
from pmtool.training.folder import SETTINGS
from pmtool.training.record import LOG, SCANS, read_record
from pmtool.training.settings import load_settings

pytestmark = pytest.mark.usefixtures("one_thread")

Train = Callable[..., int]
Rows = Callable[[Path], list[dict[str, str]]]
AssertEqual = Callable[[Path, Path], None]

JUDGED = ["2", "3", "6"]
"""Steps with a validation, of which the first is the last of the encoder's phase."""


def test_what_a_run_leaves(whole: Path, scans: Path, rows: Rows) -> None:
    names = {path.name for path in whole.iterdir()}
    assert names == {CHECKPOINT, LOG, SCANS, SETTINGS, "samples", "tensorboard"}
    lines = rows(whole)
    assert [line["step"] for line in lines] == list("123456")
    assert [line["patches"] for line in lines] == ["4", "8", "10", "12", "14", "16"]
    judged = [line["step"] for line in lines if line["validation_midpoint_mae_hu"]]
    assert judged == JUDGED
    assert all(float(line["training_bits"]) > 0 for line in lines)
    split = json.loads((whole / SCANS).read_text())
    sides = [sorted(scan["name"] for scan in split[side]) for side in ("training", "validation")]
    assert sorted(sides[0] + sides[1]) == [str(scans / f"{n}.nrrd") for n in range(3)]
    assert len(sides[1]) == 1
    assert load_settings("compact", whole / SETTINGS).optimiser.steps == 4


def test_what_a_run_tells_of_itself(whole: Path, tmp_path: Path) -> None:
    """Of slices 1.25 mm apart and thick, two may be averaged; targets lie up to 2 of them away."""
    assert read_record(whole) == (2, (1.25, 2.5), 2.5, whole / LOG)
    assert read_record(tmp_path) is None


def test_checkpoint_holds_the_averaged_network(whole: Path) -> None:
    state = load_state(whole)
    assert state is not None
    network = load_checkpoint(whole / CHECKPOINT)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, state["averaged"][name], rtol=0, atol=0)
    assert any(
        (state["network"][name] != tensor).any() for name, tensor in state["averaged"].items()
    )


def test_pictures(whole: Path) -> None:
    pictures = sorted((whole / "samples").iterdir())
    assert [picture.name for picture in pictures] == [f"000000{n}.png" for n in JUDGED]
    first, last = (np.asarray(Image.open(path)) for path in (pictures[0], pictures[-1]))
    assert first.shape == last.shape == (4 * (3 * 16 + 4), 4 * (3 * 16 + 4))
    half = first.shape[1] // 2
    np.testing.assert_array_equal(first[:, :half], last[:, :half])  # above and truth
    assert (first[:, half:] != last[:, half:]).any()


def test_tensorboard(whole: Path) -> None:
    events = EventAccumulator(str(whole / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("validation_bits")] == [2, 3, 6]
    assert [event.step for event in events.Images("samples")] == [2, 3, 6]


def test_it_says_what_it_does(
    given: list[str],
    out: Path,
    whole: Path,
    capsys: pytest.CaptureFixture[str],
    train: Train,
    assert_equal_runs: AssertEqual,
) -> None:
    assert train(given, out) == 0
    said = capsys.readouterr()
    assert said.out == ""
    for part in (
        "2 scans of 2 patients",
        "1 scan of 1 patient",
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


def test_without_an_encoder(given: list[str], out: Path, train: Train, rows: Rows) -> None:
    assert train(given, out, "-q", "--set", "network.encoder=0") == 0
    assert {line["training_midpoint_bits"] for line in rows(out)} == {""}
    assert load_checkpoint(out / CHECKPOINT).hyperparameters.encoder == 0


def test_it_learns(given: list[str], out: Path, whole: Path, train: Train, rows: Rows) -> None:
    changes = ("steps=30", "dropout=0", "learning_rate=0.01")
    same = [part for change in changes for part in ("--set", f"optimiser.{change}")]
    rarely = [
        part for name in ("every", "log_every") for part in ("--set", f"validation.{name}=30")
    ]
    assert train(given, out, "-q", *same, *rarely) == 0
    after = rows(out)[-1]
    before = rows(whole)[2]
    assert float(after["validation_bits"]) < float(before["validation_bits"]) - 0.1


@pytest.mark.parametrize(
    ("emulated", "precision", "told"),
    [(True, "bf16-mixed", True), (True, "32-true", False), (False, "bf16-mixed", False)],
)
def test_a_cpu_without_bfloat16_is_told_of(
    emulated: bool,
    precision: str,
    told: bool,
    given: list[str],
    out: Path,
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "emulates_bfloat16", lambda device: emulated)
    few = ("--set", "optimiser.steps=0", "--set", f"optimiser.precision={precision}")
    assert train(given, out, *few) == 0
    assert ("this CPU has no instructions for bfloat16" in capsys.readouterr().err) == told


@pytest.mark.parametrize(
    ("gpus", "nodes", "devices"), [(0, 1, "1"), (8, 1, "4"), (3, 1, "2"), (8, 2, "2"), (8, 9, "1")]
)
def test_as_many_gpus_as_can_share_the_patches(
    gpus: int, nodes: int, devices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert run._devices(run.Machine(nodes=nodes), (8, 4, 32)) == devices
    assert run._devices(run.Machine(devices="5", nodes=nodes), (8, 4, 32)) == "5"


def test_a_refusal_ends_all_processes(
    given: list[str], out: Path, whole: Path, tmp_path: Path
) -> None:
    """The first process alone looks at the run's folder; the others do not wait for it in vain."""
    shutil.copytree(whole, out)
    content = json.loads((out / SCANS).read_text())
    content["training"][0]["sha256"] = "other"
    (out / SCANS).write_text(json.dumps(content))
    command = [sys.executable, "-m", "pmtool", *given, "--out", str(out), "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += ["--devices", "2"]
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "the scans are not those that" in done.stderr
    assert "Error" not in done.stderr


def test_two_processes_train_as_one(
    given: list[str], tmp_path: Path, train: Train, rows: Rows
) -> None:
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
