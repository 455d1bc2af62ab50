"""Model bundles that are refused where they are used: damaged, lying, dangerous, not ours."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import SimpleITK as sitk

from pmtool.kernels.cpu import library
from pmtool.models.bundle import DEFAULT, MANIFEST, WEIGHTS
from pmtool.system.hashes import file_hash

GRAPH = "window.onnx"


class Bad(NamedTuple):
    """What is done to the folder of a bundle, and a part of the message; the code is 3."""

    spoil: Callable[[Path], object]
    message: str


def rehash(folder: Path, name: str) -> None:
    """Let the manifest vouch for what there is now."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = file_hash(folder / name)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def file(name: str, content: bytes) -> Callable[[Path], object]:
    """Another file, which the manifest vouches for."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content)
        rehash(folder, name)

    return spoil


def manifest(**values: Any) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**content, **values}))

    return spoil


def sizes(**values: Any) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text())
        content["hyperparameters"] |= values
        (folder / MANIFEST).write_text(json.dumps(content))

    return spoil


def altered(folder: Path) -> None:
    content = bytearray((folder / GRAPH).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / GRAPH).write_bytes(content)


def linked(folder: Path) -> None:
    shutil.move(folder / GRAPH, folder.parent / GRAPH)
    (folder / GRAPH).symlink_to(folder.parent / GRAPH)


def graph(*, operator: str = "Identity", domain: str = "", data: str = "") -> Callable[..., object]:
    """A graph that is valid, but not ours."""

    def spoil(folder: Path) -> None:
        onnx = pytest.importorskip("onnx")
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        (folder.parent / "secret").write_bytes(bytes(64))
        weight = onnx.TensorProto(name="w", data_type=kind, dims=[4])
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", data), ("offset", "0"), ("length", "16")):
            weight.external_data.add(key=key, value=value)
        values = [helper.make_tensor_value_info(name, kind, [4]) for name in "xyz"]
        nodes = [helper.make_node(operator, ["x"], ["y"], domain=domain)]
        nodes += [helper.make_node("Identity", ["w" if data else "x"], ["z"])]
        made = helper.make_graph(nodes, "g", values[:1], values[1:], [weight] if data else [])
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("evil", 1)]
        model = helper.make_model(made, opset_imports=opsets, ir_version=9)
        (folder / GRAPH).write_bytes(model.SerializeToString())
        rehash(folder, GRAPH)

    return spoil


NOT_OURS = "is not the manifest of a pmtool model"
CANNOT = "ONNX Runtime cannot load"
# The compiled loop reads the weights first; ONNX Runtime alone is asked for arrays of other sizes.
MISFIT = "is not ours" if library() is None else "does not hold the network's weights"
BAD = {
    "gone": Bad(shutil.rmtree, "no model was found"),
    "no manifest": Bad(lambda folder: (folder / MANIFEST).unlink(), "no model was found"),
    "no JSON": Bad(lambda folder: (folder / MANIFEST).write_text("{"), NOT_OURS),
    "deep JSON": Bad(lambda folder: (folder / MANIFEST).write_text('{"a":' * 100_000), NOT_OURS),
    "endless JSON": Bad(lambda folder: (folder / MANIFEST).write_text(" " * 2**21), NOT_OURS),
    "huge number": Bad(sizes(channels=10**30), NOT_OURS),
    "negative number": Bad(sizes(blocks=-1), NOT_OURS),
    "infinite spacing": Bad(manifest(spacing_mm=[1, float("inf")]), NOT_OURS),
    "control characters": Bad(manifest(name="\x1b[2J"), NOT_OURS),
    "path above": Bad(
        manifest(files={"../secret": "0", WEIGHTS: "0"}), "names a file outside of its folder"
    ),
    "link": Bad(linked, "names a file outside of its folder"),
    "altered": Bad(altered, "is damaged or altered"),
    "file gone": Bad(lambda folder: (folder / GRAPH).unlink(), "is incomplete"),
    "pickle": Bad(file(WEIGHTS, pickle.dumps({"x": [0.0]})), "is not a safetensors file"),
    "no ONNX": Bad(file(GRAPH, b"a graph"), CANNOT),
    "data elsewhere": Bad(graph(data="../secret"), CANNOT),
    "data anywhere": Bad(graph(data="/etc/passwd"), CANNOT),
    "memory as data": Bad(graph(data="*/_ORT_MEM_ADDR_/*"), CANNOT),
    "operator": Bad(graph(operator="Steal", domain="evil"), CANNOT),
    "graph": Bad(graph(), "is not ours"),
    "wrong size": Bad(sizes(channels=8), MISFIT),
    "wrong mixtures": Bad(sizes(mixtures=3), MISFIT),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    return shutil.copytree(DEFAULT, tmp_path / "model")


@pytest.mark.parametrize("name", BAD)
def test_bad_model(name: str, model: Path, ct_path: Path, refused: Any) -> None:
    BAD[name].spoil(model)
    arguments = ("--spacing", 1.25, "--model", model, ct_path, ct_path.with_name("out.nrrd"))
    refused(3, BAD[name].message, "resample", "-q", *arguments)


def test_info_of_a_bad_model(tmp_path: Path, refused: Any, ct: sitk.Image) -> None:
    (tmp_path / MANIFEST).write_text("[" * 100_000)
    refused(3, NOT_OURS, "info", tmp_path)
