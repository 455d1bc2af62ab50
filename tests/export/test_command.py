"""`pmtool export`: what it refuses."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pmtool.backends import tensorrt as tensorrt_backend
from pmtool.cli.console import run_command
from pmtool.export import tensorrt
from pmtool.export.cli import PACKAGES
from pmtool.main import cli
from pmtool.models.bundle import Description
from pmtool.system import extras
from pmtool.system.devices import Gpu

TRT = SimpleNamespace(__name__="tensorrt", __version__="11.0")
GPU = Gpu("NVIDIA L4", "8.9", "570.86.15")


def run(*arguments: object) -> int:
    return run_command(cli, [str(argument) for argument in arguments])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    torch.save({"no": "network"}, path)
    return path


def _without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda x: None if x == name else find_spec(x))


def _with_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "find_spec", lambda name: name)
    monkeypatch.setattr(tensorrt, "import_module", lambda name: TRT)


@pytest.mark.parametrize("name", PACKAGES)
def test_export_without_a_package(
    name: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _without(monkeypatch, name)
    assert run("export", "--checkpoint", checkpoint, "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert told == f"pmtool: pmtool export needs {name}: pip install 'pmtool[cpu,torch]'\n"
    assert not (tmp_path / "out").exists()


def test_export_of_what_is_no_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", "--checkpoint", checkpoint, "--out", out) == 3
    assert run("export", "--checkpoint", tmp_path / "none.pt", "--out", out) == 3
    assert not out.exists()


def test_export_without_a_folder_for_temporary_files(
    checkpoint: Path,
    tmp_path: Path,
    refused: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch would fail with an assertion."""
    monkeypatch.setattr("pmtool.training.checkpoint.load_checkpoint", lambda path: None)
    monkeypatch.setattr("pmtool.export.bundle.export_bundle", lambda *_: pytest.fail("exported"))
    known = ("--spacing", 1, 2, "--thickness", 1)
    message = "there is no folder for temporary files"
    with monkeypatch.context() as patch:  # pytest needs one afterwards
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
        refused(6, message, "export", "--checkpoint", checkpoint, "--out", tmp_path / "out", *known)


@pytest.mark.parametrize("given", [(), ("--spacing", 1, 2), ("--thickness", 1)])
def test_a_checkpoint_away_from_its_run_needs_a_description(
    given: tuple[object, ...],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pmtool.training.checkpoint.load_checkpoint", lambda path: None)
    monkeypatch.setattr("pmtool.export.bundle.export_bundle", lambda *_: pytest.fail("exported"))
    assert run("export", "--checkpoint", checkpoint, "--out", tmp_path / "out", *given) == 2
    told = capsys.readouterr().err
    assert f"beside {checkpoint}: give --spacing and --thickness" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given", [(), ("--spacing", 2, 4, "--thickness", 5, "--trained-on", "mine")]
)
def test_the_description_is_the_runs_unless_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[object, ...]
) -> None:
    network = object()
    scans = {"a.hu": "a.nrrd", "b.hu": "b.nrrd"}
    run_told = {"training": scans, "spacing_mm": [0.8, 2.5], "thickness_mm": 3}
    (tmp_path / "scans.json").write_text(json.dumps(run_told))
    given_on: list[object] = []

    def keep(_: object, folder: Path, *described: object) -> SimpleNamespace:
        given_on.extend(described[:2])
        return SimpleNamespace(manifest=SimpleNamespace(errors={}))

    monkeypatch.setattr("pmtool.training.checkpoint.load_checkpoint", lambda path: network)
    monkeypatch.setattr("pmtool.export.bundle.export_bundle", keep)
    checkpoint = tmp_path / "checkpoint.pt"
    assert run("export", "--checkpoint", checkpoint, "--out", tmp_path / "out", *given) == 0
    trained_on, spacing, thickness = ("mine", (2, 4), 5) if given else ("2 scans", (0.8, 2.5), 3)
    expected = Description("out", trained_on, "unknown", spacing, thickness)
    assert given_on == [expected, tmp_path / "log.csv"]


def test_export_folder(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("export", "--checkpoint", checkpoint, "--out", out)
    out.mkdir()
    (out / "notes.txt").touch()
    assert run(*arguments) == 6
    assert run(*arguments, "--overwrite") == 6
    (out / "manifest.json").touch()
    assert run(*arguments) == 6
    assert run(*arguments, "--overwrite") == 3  # the checkpoint is none
    assert run("export", "--checkpoint", checkpoint, "--out", checkpoint) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--spacing", "1", "inf"), "the spacings must be positive and in order"),
        (("--spacing", "0", "1"), "the spacings must be positive and in order"),
        (("--spacing", "nan", "1"), "the spacings must be positive and in order"),
        (("--spacing", "2", "1"), "the spacings must be positive and in order"),
        (("--thickness", "inf"), "is not a finite number"),
        (("--trained-on", "50 CTs\nof us"), "a text holds a line break"),
        (("--name", "a\tb"), "a text holds a line break"),
    ],
)
def test_descriptions_that_no_manifest_can_hold(
    options: tuple[str, str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are refused before the graphs are exported."""
    monkeypatch.setattr("pmtool.training.checkpoint.load_checkpoint", lambda path: None)
    monkeypatch.setattr("pmtool.export.bundle.export_bundle", lambda *_: pytest.fail("exported"))
    out = tmp_path / "out"
    known = ("--spacing", 1, 2, "--thickness", 1)
    assert run("export", "--checkpoint", "a.pt", "--out", out, *known, *options) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


ENGINE_OPTIONS = {
    "nothing": ("", "give --checkpoint and --out to make a model bundle, or --tensorrt"),
    "no folder": ("--checkpoint last.pt", "needs both --checkpoint and --out"),
    "no checkpoint": ("--out model --tensorrt", "needs both --checkpoint and --out"),
    "two bundles": (
        "--checkpoint last.pt --out model --tensorrt --model other",
        "--model is for --tensorrt without --checkpoint",
    ),
    "model alone": ("--model other", "give --checkpoint and --out"),
    "precision": ("--tensorrt --precision int8", "'int8' is not one of 'float32', 'float16'"),
    "windows": ("--tensorrt --max-windows 15", "15 is not in the range x>=16"),
    "no engines": (
        "--checkpoint last.pt --out model --precision float16 --max-windows 64",
        "--precision and --max-windows would do nothing without --tensorrt",
    ),
    "no new bundle": (
        "--tensorrt --name mine --trained-on scans --licence none --spacing 1 2 --overwrite",
        "--name and --trained-on and --licence and --spacing and --overwrite would do nothing",
    ),
}


@pytest.mark.parametrize("case", ENGINE_OPTIONS)
def test_export_options(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = ENGINE_OPTIONS[case]
    assert run("export", *arguments.split()) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmtool.system.devices.gpus", lambda: ["0"])
    monkeypatch.setattr(tensorrt_backend, "find_gpu", lambda device: GPU)
    monkeypatch.setattr(tensorrt_backend, "PACKAGES", ())


def test_engines_without_a_gpu(
    refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pmtool.system.devices.gpus", list)
    refused(2, "there is no NVIDIA GPU here", "export", "--tensorrt")


def test_a_gpu_is_looked_for_before_the_model_is_exported(
    checkpoint: Path,
    tmp_path: Path,
    refused: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pmtool.system.devices.gpus", list)
    arguments = ("export", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--tensorrt")
    refused(2, "there is no NVIDIA GPU here", *arguments)


@pytest.mark.usefixtures("one_gpu")
def test_engines_of_what_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_tensorrt(monkeypatch)
    monkeypatch.setattr(tensorrt, "_cuda_version", lambda rtx: 12)
    assert run("export", "--tensorrt", "--model", tmp_path) == 3


@pytest.mark.usefixtures("one_gpu")
def test_engines_without_onnx(
    refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it were not installed: it cannot be imported either."""
    _with_tensorrt(monkeypatch)
    monkeypatch.setattr(tensorrt_backend, "PACKAGES", ("onnx",))
    _without(monkeypatch, "onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "pmtool.backends.accuracy", raising=False)
    refused(2, "pip install 'pmtool[gpu]'", "export", "--tensorrt")


@pytest.mark.usefixtures("one_gpu")
def test_engines_without_tensorrt(
    refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "find_spec", lambda name: None)
    refused(2, "TensorRT is not installed", "export", "--tensorrt")


@pytest.mark.usefixtures("one_gpu")
def test_engines_without_another_package(
    refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_tensorrt(monkeypatch)
    monkeypatch.setattr(tensorrt_backend, "PACKAGES", ("no_such_package",))
    refused(2, "pip install 'pmtool[gpu]'", "export", "--tensorrt")


@pytest.mark.usefixtures("one_gpu")
def test_engines_with_an_old_driver(
    refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_tensorrt(monkeypatch)
    monkeypatch.setattr(tensorrt, "_cuda_version", lambda rtx: 13)
    refused(2, "is too old for", "export", "--tensorrt")
