"""A model on disk is taken as it was exported, or refused in one sentence."""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pmtool.errors import ModelError
from pmtool.models.bundle import MANIFEST, WEIGHTS, Bundle, Manifest
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.system.hashes import file_hash

GRAPH = "window.onnx"


def write_manifest(folder: Path, **changes: Any) -> None:
    """As an export would, for the files that are there."""
    names = [path.name for path in folder.iterdir() if path.name != MANIFEST]
    manifest = Manifest(
        name="tiny",
        trained_on="nothing",
        licence="none",
        spacing_mm=(1.0, 1.25),
        thickness_mm=2.5,
        hyperparameters=Hyperparameters(channels=4, hu_window=(-1000, 1000)),
        files={name: file_hash(folder / name) for name in names},
        errors={"window": 1e-6},
    )
    (folder / MANIFEST).write_text(json.dumps({**manifest.to_json(), **changes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of one tensor and something in the place of a graph."""
    save_file({"network.x": np.zeros(3, np.float32)}, tmp_path / WEIGHTS)
    (tmp_path / GRAPH).write_bytes(b"a graph")
    write_manifest(tmp_path)
    return tmp_path


def refusal(folder: Path) -> str:
    """The one sentence with which a bundle is refused."""
    with pytest.raises(ModelError) as caught:
        Bundle.load(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


def test_manifest_is_kept(folder: Path) -> None:
    bundle = Bundle.load(folder)
    assert Manifest.from_json(json.loads(json.dumps(bundle.manifest.to_json()))) == bundle.manifest
    assert bundle.hyperparameters == Hyperparameters(channels=4, hu_window=(-1000, 1000))
    assert bundle.manifest.spacing_mm == (1.0, 1.25)
    assert bundle.manifest.thickness_mm == 2.5
    assert bundle.weights == folder / WEIGHTS
    assert bundle.hash == file_hash(folder / MANIFEST)


def test_hash_stands_for_every_file(folder: Path) -> None:
    before = Bundle.load(folder).hash
    (folder / GRAPH).write_bytes(b"another graph")
    write_manifest(folder)
    assert Bundle.load(folder).hash != before


def test_graphs(folder: Path) -> None:
    bundle = Bundle.load(folder)
    assert bundle.graph("window") == folder / GRAPH
    with pytest.raises(ModelError, match="has no graph row1: export it again"):
        bundle.graph("row1")


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_altered_file(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert f"{name} is damaged or altered" in refusal(folder)


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"incomplete: {name} cannot be read" in refusal(folder)


def test_missing_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    assert "no model was found" in refusal(folder)
    assert "no model was found" in refusal(folder / "nowhere")
    assert "manifest.json is missing" in refusal(folder)


def test_manifest_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not missing."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "manifest.json cannot be read (Permission denied)" in refusal(folder)


def _without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda values: {k: v for k, v in values.items() if k != key}


def _with(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda values: {**values, **changes}


@pytest.mark.parametrize(
    "alter",
    [
        _without("files"),
        _without("name"),
        _without("hyperparameters"),
        _with(color="blue"),
        _with(files=["window.onnx"]),
        _with(files={}),
        _with(spacing_mm=[1]),
        _with(spacing_mm=["thin", "thick"]),
        _with(spacing_mm=[2, 1]),
        _with(spacing_mm=[-1, 1]),
        _with(spacing_mm=[1, float("inf")]),
        _with(spacing_mm=[float("nan"), 1]),
        _with(thickness_mm=0),
        _with(thickness_mm=float("nan")),
        _with(thickness_mm="thin"),
        _with(name="\x1b[2J"),
        _with(trained_on="two\nlines"),
        _with(errors={"window": "small"}),
        _with(errors=1),
        _with(hyperparameters={"channels": 10**30, "hu_window": [-1024, 3071]}),
        _with(hyperparameters={"channels": 4.5, "hu_window": [-1024, 3071]}),
        _with(hyperparameters={"channels": True, "hu_window": [-1024, 3071]}),
        _with(hyperparameters={"channels": 4, "hu_window": [-1e300, 3071]}),
        _with(hyperparameters={"channels": 4, "hu_window": [-1024, 10**9]}),
        _with(hyperparameters={"channels": 4, "hu_window": [-1024, 2**15]}),  # no int16
        _with(hyperparameters={"channels": 4, "bits": -1, "hu_window": [-1024, 3071]}),
        _with(hyperparameters={"channels": 0, "hu_window": [-1024, 3071]}),
        _with(hyperparameters={"channels": "4", "hu_window": [-1024, 3071]}),
        _with(hyperparameters=[]),
        lambda values: [values],
        lambda values: None,
    ],
)
def test_foreign_manifest(folder: Path, alter: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(alter(json.loads(path.read_text()))))
    assert f"{path} is not the manifest of a pmtool model" in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"manifest: 1",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"name": ' + b"9" * 10_000 + b"}",
        b" " * (2 << 20),
    ],
)
def test_manifest_that_is_no_json(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    assert "is not the manifest" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["../secret.onnx", "/etc/hostname", "sub/window.onnx", "..", "a\0b", "\ud800"]
)
def test_path_outside_of_the_folder(folder: Path, name: str) -> None:
    write_manifest(folder, files={WEIGHTS: file_hash(folder / WEIGHTS), name: "0" * 64})
    assert f"outside of its folder: {name!r}" in refusal(folder)


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_link_out_of_the_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "file"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert f"outside of its folder: {name!r}" in refusal(folder)


def test_link_to_itself(folder: Path) -> None:
    (folder / GRAPH).unlink()
    (folder / GRAPH).symlink_to(GRAPH)
    assert "outside of its folder" in refusal(folder)


def test_pipe_in_the_place_of_a_file(folder: Path) -> None:
    for name, message in ((GRAPH, "incomplete"), (MANIFEST, "no model was found")):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert message in refusal(folder)


def test_pickle_in_the_place_of_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"network.x": [0.0]}))
    write_manifest(folder)
    assert "is not a safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    "header",
    [
        '{"network.x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 99]}}',
        '{"network.x": {"dtype": "F32", "shape": [3], "data_offsets": [-8, 4]}}',
        '{"network.x": {"dtype": "F32", "shape": [3], "data_offsets": [8, 4]}}',
        '{"network.x": {"dtype": "F32", "shape": [3], "data_offsets": "ab"}}',
        '{"network.x": [0, 12]}',
        "[" * 100_000,
    ],
)
def test_safetensors_that_lie(folder: Path, header: str) -> None:
    content = len(header).to_bytes(8, "little") + header.encode() + bytes(12)
    (folder / WEIGHTS).write_bytes(content)
    write_manifest(folder)
    assert "is not a safetensors file" in refusal(folder)
