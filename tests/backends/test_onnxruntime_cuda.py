"""ONNX Runtime on a GPU, as far as it goes without one: what is refused, and what is asked for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pmtool.backends import onnxruntime, onnxruntime_cuda
from pmtool.backends.onnxruntime import OnnxRuntimeProgram
from pmtool.backends.onnxruntime_cuda import PROVIDER, OnnxRuntimeCudaBackend, check
from pmtool.backends.tensorrt import InTurn
from pmtool.choices import Precision
from pmtool.errors import OUT_OF_GPU_MEMORY, MemoryBudgetError, ModelError, UsageError
from pmtool.interface.graph_names import is_pixel_graph
from pmtool.interface.host import HostMemory
from pmtool.models.bundle import Bundle
from pmtool.system import extras


class Session:
    """Of a runtime that keeps what it was asked for."""

    def __init__(
        self, model: str | bytes, options: Any, providers: list[Any], enable_fallback: int
    ) -> None:
        assert not enable_fallback
        self.model, self.providers = model, providers
        self.bound: list[tuple[Any, ...]] = []
        self.options: Any = None

    def get_providers(self) -> list[str]:
        return [PROVIDER, "CPUExecutionProvider"]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="y")]

    def io_binding(self) -> Any:
        return SimpleNamespace(
            bind_input=lambda *place: self.bound.append(place),
            bind_output=lambda *place: self.bound.append(place),
        )

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.options = options


class Fallen(Session):
    """Of a runtime whose CUDA provider could not start."""

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def refusing(*arguments: Any, **keywords: Any) -> Any:
    raise RuntimeError("Could not find an implementation for Conv(22)")


def exhausted(*arguments: Any, **keywords: Any) -> Any:
    raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")


def backend(
    monkeypatch: pytest.MonkeyPatch, session: Any, precision: Precision = "float32"
) -> OnnxRuntimeCudaBackend:
    monkeypatch.setattr(onnxruntime.runtime(), "InferenceSession", session)
    memory = HostMemory()
    memory.device = SimpleNamespace(stream=SimpleNamespace(handle=77))  # type: ignore[attr-defined]
    return OnnxRuntimeCudaBackend(Bundle.load(), memory, "cuda:1", precision)


def test_arrays_are_bound_on_the_device_and_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.zeros((2, 3), np.float32), np.zeros(4, np.float32)
    program = backend(monkeypatch, Session).bind("row1", {"x": x, "y": y})
    assert isinstance(program, OnnxRuntimeProgram)
    program.run()
    session = program.session
    provider, options = session.providers[0]
    assert provider == PROVIDER
    assert options == {
        "device_id": 1,
        "user_compute_stream": "77",
        "use_tf32": 0,
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    assert session.bound == [
        ("x", "cuda", 1, np.float32, (2, 3), x.ctypes.data),
        ("y", "cuda", 1, np.float32, (4,), y.ctypes.data),
    ]
    key = "disable_synchronize_execution_providers"
    assert session.options.get_run_config_entry(key) == "1"


def test_pixels_are_those_of_the_loop_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = backend(monkeypatch, Session)
    assert isinstance(found.bind("mean2", {}), OnnxRuntimeProgram)
    program = InTurn([])
    found.loops = SimpleNamespace(covers=is_pixel_graph, bind=lambda graph, arrays: program)
    assert found.bind("mean2", {}) is program
    assert isinstance(found.bind("row1", {}), OnnxRuntimeProgram)


def test_precision_is_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    program = backend(monkeypatch, Session, "float16").bind("known1", {})
    assert isinstance(program, OnnxRuntimeProgram)
    graph = onnx.load_from_string(program.session.model).graph
    casts = [node for node in graph.node if node.op_type == "Cast"]
    assert {node.attribute[0].i for node in casts} == {TensorProto.FLOAT16, TensorProto.FLOAT}


def test_a_fall_back_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="cannot use cuda:1 and would run on the CPU: inst"):
        backend(monkeypatch, Fallen).bind("row1", {})


def test_a_graph_without_an_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="cannot run the graph row1 in bfloat16 on cuda:1: use an"):
        backend(monkeypatch, refusing, "bfloat16").bind("row1", {})


def test_a_bundle_without_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other precision would help."""
    found = backend(monkeypatch, Session)
    manifest = found.bundle.manifest
    files = {name: digest for name, digest in manifest.files.items() if name != "row1.onnx"}
    found.bundle = Bundle(found.bundle.folder, replace(manifest, files=files), found.bundle.hash)
    with pytest.raises(ModelError, match="has no graph row1"):
        found.bind("row1", {})


def test_a_gpu_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MemoryBudgetError, match=OUT_OF_GPU_MEMORY):
        backend(monkeypatch, exhausted).bind("row1", {})


def test_a_runtime_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime.runtime(), "get_available_providers", lambda: providers)
    with pytest.raises(UsageError, match="is for the CPU alone: pip uninstall onnxruntime"):
        check(("cuda:0",), "float32")


@pytest.mark.parametrize("missing", onnxruntime_cuda.PACKAGES)
def test_a_missing_package(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime.runtime(), "get_available_providers", lambda: [PROVIDER])
    monkeypatch.setattr(extras, "find_spec", lambda x: None if x == missing else 1)
    with pytest.raises(UsageError, match=rf"needs {missing}: pip install 'pmtool\[gpu\]'"):
        check(("cuda:0",), "float32")


def test_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(onnxruntime.runtime(), "get_available_providers", lambda: [PROVIDER])
    monkeypatch.setattr(extras, "find_spec", lambda name: name)
    monkeypatch.setattr(onnxruntime_cuda, "find_gpu", asked.append)
    check(("cuda:0", "cuda:3"), "float32")
    assert asked == ["cuda:0", "cuda:3"]
