"""A stand-in for TensorRT, for its backend: engines are ONNX files that the CPU runs."""

from __future__ import annotations

import ctypes
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pmtool.arrays import Float32s
from pmtool.backends.onnxruntime import runtime
from pmtool.backends.tensorrt import ALIGNMENT, TensorRTBackend
from pmtool.export import engines as caching
from pmtool.export.engines import Engines
from pmtool.export.profiles import shapes
from pmtool.export.tensorrt import Build
from pmtool.interface.host import HostMemory
from pmtool.models.bundle import Bundle
from pmtool.system.devices import Gpu

GPU = Gpu("NVIDIA H200", "9.0", "580.65.06")
STREAM = 77


class Memory(HostMemory):
    """Memory of a device that is the CPU."""

    def __init__(self) -> None:
        self.depth = 0
        self.device = SimpleNamespace(stream=SimpleNamespace(handle=STREAM), active=self.active)

    def zeros(self, *shape: int) -> Float32s:
        """As a GPU's memory begins, at an address that is aligned."""
        whole = super().zeros(math.prod(shape) + ALIGNMENT // 4)
        skipped = -whole.ctypes.data % ALIGNMENT // 4
        return whole[skipped : skipped + math.prod(shape)].reshape(shape)

    @contextmanager
    def active(self) -> Iterator[None]:
        self.depth += 1
        yield
        self.depth -= 1


class Mode(Enum):
    INPUT, OUTPUT = range(2)


class FakeContext:
    """Runs a graph on addresses, and spoils its outputs before it reads its inputs.

    An engine may do so where an output does not depend on an input.
    """

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.profile, self.scratch = -1, 0

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        assert stream == STREAM
        self.profile = number
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.get_tensor_profile_shape(name, self.profile)
        assert all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True))
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.engine.output_shapes(self.shapes)[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % ALIGNMENT == 0

    def update_device_memory_size_for_shapes(self) -> int:
        return 100 * sum(math.prod(shape) for shape in self.shapes.values())

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.update_device_memory_size_for_shapes()
        self.scratch = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM
        assert self.scratch
        if self.engine.trt.reasons:
            self.engine.trt.log.errors += self.engine.trt.reasons
            return False
        outputs = self.engine.output_shapes(self.shapes)
        targets = {name: self._array(name, shape) for name, shape in outputs.items()}
        for target in targets.values():
            target[:] = np.nan
        inputs = {name: self._array(name, shape) for name, shape in self.shapes.items()}
        results = self.engine.session.run(list(targets), inputs)
        for target, result in zip(targets.values(), results, strict=True):
            target[:] = np.nan if self.profile == self.engine.trt.wrong_profile else result
        return True

    def _array(self, name: str, shape: tuple[int, ...]) -> Float32s:
        place = ctypes.cast(self.addresses[name], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(place, shape)


class FakeEngine:
    """Reads a graph and its profiles from what `FakeTensorRT.build` has put together."""

    def __init__(self, content: bytes, trt: FakeTensorRT) -> None:
        self.trt = trt
        self.model, self.profiles = pickle.loads(content)
        self.values = {v.name: v for v in (*self.model.graph.input, *self.model.graph.output)}
        self.outputs = [value.name for value in self.model.graph.output]
        self.session = runtime().InferenceSession(
            self.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        self.num_io_tensors, self.num_optimization_profiles = len(self.values), len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self.values)[index])

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.OUTPUT if name in self.outputs else Mode.INPUT

    def get_tensor_profile_shape(self, name: str, number: int) -> list[tuple[int, ...]]:
        return shapes(self.values[name], self.profiles[number])

    def output_shapes(self, inputs: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        zeros = {name: np.zeros(shape, np.float32) for name, shape in inputs.items()}
        results = self.session.run(self.outputs, zeros)
        return {name: r.shape for name, r in zip(self.outputs, results, strict=True)}

    def create_execution_context(self, strategy: str) -> FakeContext:
        assert strategy == "managed by the user"
        return FakeContext(self)


class FakeTensorRT(ModuleType):
    """As much of TensorRT as the backend uses.

    Attributes
    ----------
    reasons
        Why engines fail, if they do.
    wrong_profile
        Number of the profile in which engines compute NaN, if there is one.
    """

    __version__ = "10.16.0"
    TensorIOMode = Mode
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="managed by the user")

    def __init__(self) -> None:
        super().__init__("tensorrt")
        self.reasons: list[str] = []
        self.wrong_profile: int | None = None
        self.log = SimpleNamespace(errors=[])
        self.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=self.deserialize)

    def deserialize(self, content: bytes) -> FakeEngine | None:
        if content == b"damaged":
            self.log.errors.append("incompatible\ndevice")
            return None
        return FakeEngine(content, self)

    @staticmethod
    def build(trt: Any, name: str, model: Any, profiles: Any, timings: bytes) -> Build:
        return Build(pickle.dumps((model, profiles)), b"")


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTensorRT:
    fake = FakeTensorRT()
    monkeypatch.setenv("PMTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(caching, "tensorrt", lambda: fake)
    monkeypatch.setattr(caching, "check_driver", lambda trt, gpu: None)
    monkeypatch.setattr(caching, "logger", lambda trt: fake.log)
    monkeypatch.setattr(caching, "build_engine", fake.build)
    return fake


@pytest.fixture
def load_backend(trt: FakeTensorRT) -> Callable[[int], TensorRTBackend]:
    """``load_backend(windows)``: the default model in engines for so many windows."""

    def load(windows: int) -> TensorRTBackend:
        engines = Engines(Bundle.load(), GPU, "float32", max_windows=windows)
        return TensorRTBackend(engines, Memory(), "cuda:0")

    return load
