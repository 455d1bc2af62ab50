"""`pmtool info` on bundles with and without a card and a log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pmtool.cli.console import run_command
from pmtool.main import cli
from pmtool.models.bundle import CARD, MANIFEST, TRAINING_LOG, WEIGHTS, Bundle, Manifest
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.system.hashes import file_hash


def run(*arguments: object) -> int:
    return run_command(cli, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A bundle of 3 x 4 + 5 parameters, and one tensor that a graph derived from them."""
    folder = tmp_path / "model"
    folder.mkdir()
    tensors = {"network.a": np.zeros((3, 4), np.float32), "network.b": np.zeros(5, np.float32)}
    save_file({**tensors, "graph.c": np.zeros(99, np.float32)}, folder / WEIGHTS)
    manifest = Manifest(
        name="tiny",
        trained_on="two phantoms",
        licence="CC BY 3.0",
        spacing_mm=(1.0, 1.25),
        thickness_mm=2.5,
        hyperparameters=Hyperparameters(channels=7, hu_window=(-1000, 1000)),
        files={WEIGHTS: file_hash(folder / WEIGHTS)},
        errors={"window": 7.2e-6, "row1": 2e-7},
    )
    (folder / MANIFEST).write_text(json.dumps(manifest.to_json()))
    return folder


def told(model: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert run("info", model) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def fact(text: str, name: str) -> str:
    """What the manifest's table says under a name."""
    (line,) = (x for x in text.splitlines() if x.startswith(f"  {name}  "))
    return line.removeprefix(f"  {name}").strip()


def test_manifest(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(model, capsys)
    assert fact(text, "name") == "tiny"
    assert fact(text, "folder") == str(model)
    assert fact(text, "hash") == Bundle.load(model).hash == file_hash(model / MANIFEST)
    assert fact(text, "licence") == "CC BY 3.0"
    assert fact(text, "trained on") == "two phantoms"
    assert fact(text, "distance of slices").startswith("1 to 1.25 mm")
    assert fact(text, "channels") == "7"
    assert fact(text, "hu window") == "[-1000, 1000]"
    assert fact(text, "parameters").startswith("17,")
    assert fact(text, "graphs against PyTorch") == "window 7.2e-06, row1 2.0e-07"


def test_card_and_log(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = told(model, capsys)
    assert bare.startswith(f"No model card ({CARD}).\n\nManifest\n")
    assert bare.endswith(f"\n\nNo training log ({TRAINING_LOG}).\n")
    before = Bundle.load(model).hash
    (model / CARD).write_text("# Tiny\n\nNothing but zeros.\n", encoding="utf-8")
    (model / TRAINING_LOG).write_text("step,loss,validation\n50,7.5,\n100,7.25,7.0\n150,6.9,\n")
    text = told(model, capsys)
    assert text.startswith("# Tiny\n\nNothing but zeros.\n\nManifest\n")
    assert text.splitlines()[-4] == "End of the training log"
    figures = [fact(text, name) for name in ("step", "loss", "validation")]
    assert figures == ["150", "6.9", "7.0"]
    assert Bundle.load(model).hash == before


@pytest.mark.parametrize("content", ["", "step,bits\n", "\n\n"])
def test_log_without_rows(model: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (model / TRAINING_LOG).write_text(content)
    assert "No training log" in told(model, capsys)


def test_no_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", tmp_path / "nowhere") == 3
    assert capsys.readouterr().err.startswith(f"pmtool: no model was found in {tmp_path}")
    (model / WEIGHTS).write_bytes(b"damaged")
    assert run("info", model) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{WEIGHTS} is damaged or altered" in captured.err


def test_model_that_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    text = capsys.readouterr().out
    assert fact(text, "hash") == Bundle.load().hash
    assert "No model card" not in text


def test_needs_neither_torch_nor_onnxruntime(model: Path) -> None:
    code = (
        "import sys\n"
        "from pmtool.main import cli\n"
        "try: cli(['info', sys.argv[1]])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'onnxruntime', 'safetensors'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, model], capture_output=True, check=True)


def test_texts_do_not_control_the_terminal(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A card with escapes, a card behind a link, and a log that is none."""
    (model / CARD).write_text("A card\x1b]0;owned\x07 of\ttwo\nlines")
    (model / TRAINING_LOG).write_text("step\n" + "9" * 200_000 + "\n")
    assert run("info", model) == 0
    told = capsys.readouterr().out
    assert "A card]0;owned of\ttwo\nlines" in told
    assert "No training log" in told
    (model / CARD).unlink()
    (model / CARD).symlink_to("/etc/hostname")
    assert run("info", model) == 0
    assert "No model card" in capsys.readouterr().out
