"""Data and machines that `pmtool train` refuses, each in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from pmtool.phantom.chest import chest_phantom
from pmtool.system import extras
from pmtool.system.files import folder_lock
from pmtool.training.record import SCANS

pytestmark = pytest.mark.usefixtures("one_thread")

Train = Callable[..., int]
WriteScans = Callable[..., Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def given_data(given: list[str], data: Path, tmp_path: Path) -> list[str]:
    """Arguments with other scans."""
    config = given[given.index("--config") + 1]
    cache = str(tmp_path / "cache")
    return ["train", "--data", str(data), "--config", config, "--cache", cache]


def test_no_ct(
    given_data: list[str], data: Path, out: Path, capsys: pytest.CaptureFixture[str], train: Train
) -> None:
    assert train(given_data, out) == 3
    assert f"{data} is not a folder" in capsys.readouterr().err
    data.mkdir()
    assert train(given_data, out) == 3
    assert (
        f"pmtool: no CT was found in {data}: give folders with CT scans\n"
        in capsys.readouterr().err
    )
    (data / "bad.nrrd").write_bytes(b"NRRD0004\n")
    assert train(given_data, out) == 3
    assert "1 could not be used, such as" in capsys.readouterr().err


def test_no_ct_to_validate_on(
    given_data: list[str],
    data: Path,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    train: Train,
    write_scans: WriteScans,
) -> None:
    """What cannot be used of the training scans is no reason."""
    write_scans(data)
    (data / "bad.nrrd").write_bytes(b"NRRD0004\n")
    held = tmp_path / "held"
    held.mkdir()
    assert train(given_data, out, "--validation", held) == 3
    assert f"no CT was found in {held}: give folders" in capsys.readouterr().err


def test_other_modality(
    given_data: list[str],
    data: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
    train: Train,
    write_scans: WriteScans,
) -> None:
    write_scans(data)
    image = sitk.GetImageFromArray(np.zeros((1, 16, 16), np.int16))
    image.SetMetaData("0008|0060", "PT")
    sitk.WriteImage(image, str(data / "pet.dcm"))
    assert train(given_data, out) == 5
    assert f"{data / 'pet.dcm'} is of modality PT, not CT" in capsys.readouterr().err


def test_thick_and_corrupt_scans(
    given_data: list[str],
    data: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
    train: Train,
    write_scans: WriteScans,
) -> None:
    write_scans(data)
    thick = chest_phantom(32, 5, (11.0, 11.0, 5.0))
    sitk.WriteImage(thick, str(data / "thick.nrrd"))
    (data / "bad.nrrd").write_bytes(b"NRRD0004\n")
    assert train(given_data, out, "--set", "optimiser.steps=1") == 0
    said = capsys.readouterr().err
    assert "warning: slices are thicker or further apart than 3 mm in 1 scan, such as" in said
    assert "2 skipped" in said
    told = [line for line in said.splitlines() if line.startswith("skipped: ")]
    listed = json.loads((out / SCANS).read_text())["skipped"]
    assert told == [f"skipped: {sentence}" for sentence in listed]
    assert ["bad.nrrd" in listed[0], "thick.nrrd" in listed[1]] == [True, True]


def test_patients(
    given_data: list[str],
    data: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
    train: Train,
    write_scans: WriteScans,
) -> None:
    write_scans(data, 1)
    assert train(given_data, out) == 2
    assert "--validation" in capsys.readouterr().err
    assert train(given_data, out, "--validation", data) == 2
    assert "patient 0 is in both" in capsys.readouterr().err
    held = write_scans(data.parent / "held", 1, first=1)
    assert train(given_data, out, "--validation", held, "--set", "optimiser.steps=1") == 0
    split = json.loads((out / SCANS).read_text())
    assert [scan["name"] for scan in split["validation"]] == [str(held / "1.nrrd")]


@pytest.mark.parametrize(
    "first", [("--data", "a", "b"), ("--data=a", "b"), ("--data", "a", "--data", "b")]
)
def test_several_folders(
    first: tuple[str, ...], out: Path, monkeypatch: pytest.MonkeyPatch, train: Train
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("pmtool.training.run.train", lambda *found: given.extend(found))
    assert train(["train", *first], out, "--validation", "c", "d", "e", "-q") == 0
    data = given[0]
    assert [path.name for path in data.training] == ["a", "b"]
    assert [path.name for path in data.validation] == ["c", "d", "e"]
    assert train(["train", "stray", *first], out) == 2


def test_machine(
    given: list[str], out: Path, capsys: pytest.CaptureFixture[str], train: Train
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert train(given, out, "--accelerator", "cuda") == 2
    assert "no devices auto of accelerator cuda: give --devices" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", ["lightning_fabric", "pydicom", "yaml"])
def test_a_missing_package(
    name: str,
    given: list[str],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    train: Train,
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda x: None if x == name else find_spec(x))
    assert train(given, out) == 2
    assert capsys.readouterr().err == (
        f"pmtool: pmtool train needs {name}: pip install 'pmtool[train]'\n"
    )


def test_a_folder_that_another_run_is_writing(
    given: list[str], out: Path, capsys: pytest.CaptureFixture[str], train: Train
) -> None:
    with folder_lock(out):
        assert train(given, out) == 6
    assert f"another process is writing to {out}" in capsys.readouterr().err
