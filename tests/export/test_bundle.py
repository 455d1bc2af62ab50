"""From a network to a bundle that ONNX Runtime runs, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.backends.torch import TorchBackend
from pmtool.choices import Mode
from pmtool.cli.console import run_command
from pmtool.errors import ModelError
from pmtool.export import bundle as export
from pmtool.export.weights import WeightStore, refer, take_out
from pmtool.graphs.suite import Graph, graph_suite
from pmtool.interface.graph_names import GRAPHS
from pmtool.interface.protocol import Arrays, Program
from pmtool.main import cli
from pmtool.models.bundle import (
    CARD,
    MANIFEST,
    NETWORK,
    TRAINING_LOG,
    WEIGHTS,
    Bundle,
    Description,
    tensor_places,
)
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_state
from pmtool.network.inference import load_network
from pmtool.sampling.lane_cache import LaneCache
from pmtool.sampling.pairs import PairGroup, SlicePair
from pmtool.sampling.windows import wavefronts

TINY = Hyperparameters(channels=4, mixtures=2)
EXPORTED = ["window", "row1", "known2", "quantile2", "mean1"]
"""Graphs of the bundle here, one of each kind: all thirteen would take six minutes."""
DESCRIPTION = Description("tiny", "nothing", "unknown", (1.0, 2.5), 3.0)


@pytest.fixture(scope="module")
def network() -> PixelMiner:
    torch.manual_seed(0)
    return PixelMiner(TINY).eval()


@pytest.fixture(scope="module")
def bundle(network: PixelMiner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """Takes two minutes."""

    def some(network: PixelMiner, names: Iterable[str] = EXPORTED) -> dict[str, Graph]:
        return graph_suite(network, [name for name in names if name in EXPORTED])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("export") / "new" / "bundle"
    log = folder.parents[1] / "log.csv"
    log.write_text("step\n1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "graph_suite", some)
        patch.setattr("pmtool.backends.torch.graph_suite", some)
        made = export.export_bundle(network, folder, DESCRIPTION, log, lambda *_: None)
    yield made
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_manifest(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.trained_on, manifest.licence) == ("tiny", "nothing", "unknown")
    assert manifest.hyperparameters == TINY
    assert sorted(manifest.files) == sorted([WEIGHTS, *(f"{graph}.onnx" for graph in EXPORTED)])
    assert sorted(path.name for path in bundle.folder.iterdir()) == sorted(
        [MANIFEST, TRAINING_LOG, *manifest.files]
    )
    assert (bundle.folder / TRAINING_LOG).read_text() == "step\n1\n"
    assert sorted(manifest.errors) == sorted(EXPORTED)
    assert max(manifest.errors.values()) <= export.TOLERANCE


@pytest.mark.slow
def test_network_is_in_the_weights(bundle: Bundle, network: PixelMiner) -> None:
    arrays = load_file(bundle.weights)
    for name, tensor in folded_state(network).items():
        np.testing.assert_array_equal(arrays[NETWORK + name], tensor.numpy())
    slices = torch.rand((3, 1, 1, 16, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1
    given = *slices, torch.full((1, 1, 1, 1), 0.7)
    for found, expected in zip(load_network(bundle)(*given), network(*given), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_graphs_carry_no_weights_and_no_origins(bundle: Bundle) -> None:
    for graph in EXPORTED:
        path = bundle.graph(graph)
        model = onnx.load(path, load_external_data=False)
        assert path.stat().st_size < 300_000
        assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()
        outside = [t for t in model.graph.initializer if t.external_data]
        assert outside
        assert {t.external_data[0].value for t in outside} == {WEIGHTS}


class Mixed(TorchBackend):
    """Runs the exported graphs in ONNX Runtime, and the others in PyTorch."""

    def __init__(self, network: PixelMiner, bundle: Bundle) -> None:
        super().__init__(network)
        self.exported = OnnxRuntimeBackend(bundle)

    def bind(self, graph: str, arrays: Arrays) -> Program:
        if graph not in EXPORTED:
            return super().bind(graph, arrays)
        return self.exported.bind(graph, {name: array.numpy() for name, array in arrays.items()})


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["median", "mean"])
def test_bundle_generates(bundle: Bundle, network: PixelMiner, mode: Mode) -> None:
    """A whole slice in windows of all kinds, as by PyTorch alone."""
    above, below = np.random.default_rng(0).integers(-1024, 3072, (2, 90, 104)).astype(np.int16)
    made = []
    for backend in (TorchBackend(network), Mixed(network, bundle)):
        pairs = [SlicePair(above, below, 0.5, 0)]
        group = PairGroup(TINY, pairs, (92, 104), backend.memory)
        cache = LaneCache(backend, TINY, (64, 64))
        for front in wavefronts((92, 104), (64, 64)):
            for window in front:
                cache.generate(group, [(0, window)], 0, mode)
        made.append(group.slices()[0])
    assert made[0].shape == (90, 104)
    assert made[0].std() > 1
    assert np.mean(made[0] == made[1]) > 0.99


@pytest.mark.slow
def test_a_graph_that_differs_is_no_bundle(
    bundle: Bundle, network: PixelMiner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As if ONNX Runtime had computed something else, even NaN; an older model stays."""
    monkeypatch.setattr(export, "export_graph", lambda *_: onnx.load(bundle.graph("row1")))
    monkeypatch.setattr(export, "graph_errors", lambda *_: {"window": 1e-7, "row1": np.nan})
    names = (MANIFEST, CARD, TRAINING_LOG, WEIGHTS)
    for name in names:
        (tmp_path / name).write_text("of another")
    with pytest.raises(ModelError, match="the graph row1 differs from PyTorch by nan"):
        export.export_bundle(network, tmp_path, DESCRIPTION, None, lambda *_: None)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        names, "of another"
    )


def test_an_interrupted_export_leaves_the_model_that_was_there(
    network: PixelMiner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "export_graph", interrupt)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(KeyboardInterrupt):
        export.export_bundle(network, tmp_path, DESCRIPTION, None, lambda *_: None)
    assert (tmp_path / MANIFEST).read_text() == "{}"


@pytest.mark.parametrize("place", ["pmtool.export.weights.WeightStore.save", "onnx.save"])
def test_a_full_disk_leaves_the_model_that_was_there(
    place: str, network: PixelMiner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "export_graph", lambda *_: model_of(p=1))
    (tmp_path / MANIFEST).write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        with pytest.raises(OSError, match="No space"):
            export.export_bundle(network, tmp_path, DESCRIPTION, None, lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
    monkeypatch.setattr(export, "graph_errors", lambda *_: dict.fromkeys(GRAPHS, 0.0))
    export.export_bundle(network, tmp_path, DESCRIPTION, None, lambda *_: None)
    assert Bundle.load(tmp_path).manifest.name == "tiny"
    assert not list(tmp_path.glob(".*"))


def test_every_graph_is_told_before_it_is_exported(
    network: PixelMiner,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: list[str] = []

    def exported(*_: object) -> onnx.ModelProto:
        told.extend(capsys.readouterr().err.splitlines())
        return model_of(p=len(told))

    monkeypatch.setattr("pmtool.training.checkpoint.load_checkpoint", lambda path: network)
    monkeypatch.setattr(export, "export_graph", exported)
    monkeypatch.setattr(export, "graph_errors", lambda *_: dict.fromkeys(GRAPHS, 0.0))
    arguments = ["export", "--checkpoint", "any.pt", "--out", str(tmp_path / "model")]
    arguments += ["--spacing", "1", "2.5", "--thickness", "3"]
    assert run_command(cli, arguments) == 0
    assert told[0] == "exporting the graph window, 1 of 13"
    assert sorted(line.split()[3].rstrip(",") for line in told) == sorted(GRAPHS)
    assert capsys.readouterr().err == "comparing the graphs with PyTorch\n"


def model_of(**weights: float) -> onnx.ModelProto:
    """The sum of constants of 100 equal numbers each."""
    tensors = [
        numpy_helper.from_array(np.full(100, value, np.float32), name)
        for name, value in weights.items()
    ]
    nodes = [helper.make_node("Sum", list(weights), ["y"])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [100])
    return helper.make_model(helper.make_graph(nodes, "sum", [], [output], tensors))


def test_weights_stand_in_the_file_once(tmp_path: Path) -> None:
    store = WeightStore()
    store.keep("network.a", np.full(100, 1, np.float32))
    store.keep("network.b", np.full(100, 1, np.float32))
    models = {"one": model_of(p=1, q=2), "two": model_of(r=2, s=3)}
    names = {name: take_out(model, name, store) for name, model in models.items()}
    assert names == {"one": {"p": "network.a", "q": "one.q"}, "two": {"r": "one.q", "s": "two.s"}}
    store.save(tmp_path / WEIGHTS)
    assert sorted(load_file(tmp_path / WEIGHTS)) == ["network.a", "network.b", "one.q", "two.s"]
    for name, model in models.items():
        refer(model, names[name], tmp_path / WEIGHTS)
        onnx.save(model, tmp_path / f"{name}.onnx")
    read = onnx.load(tmp_path / "two.onnx")
    sums = [float(numpy_helper.to_array(tensor)[7]) for tensor in read.graph.initializer]
    assert sums == [2, 3]


def test_tensor_places(tmp_path: Path) -> None:
    store = WeightStore()
    store.add("x", np.arange(6, dtype=np.float32).reshape(2, 3))
    store.save(tmp_path / WEIGHTS)
    ((name, (offset, length)),) = tensor_places(tmp_path / WEIGHTS).items()
    content = (tmp_path / WEIGHTS).read_bytes()[offset : offset + length]
    assert name == "x"
    np.testing.assert_array_equal(np.frombuffer(content, np.float32), np.arange(6))
