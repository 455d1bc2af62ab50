"""The TensorRT backend on a TensorRT that is none: engines are ONNX files that the CPU runs."""

from __future__ import annotations

import ctypes
import gc
import math
import pickle
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from pmtool.arrays import Float32s
from pmtool.backends import accuracy
from pmtool.backends.accuracy import check_engines, engine_errors, error_table
from pmtool.backends.differences import differences
from pmtool.backends.onnxruntime import OnnxRuntimeBackend, runtime
from pmtool.backends.tensorrt import ALIGNMENT, EngineProgram, InTurn, Scratch, TensorRTBackend
from pmtool.errors import MemoryBudgetError, ModelError, UsageError
from pmtool.export import engines as caching
from pmtool.export.engines import Engines
from pmtool.export.profiles import LEAST_WINDOWS, shapes
from pmtool.export.tensorrt import Build
from pmtool.interface.buffers import Buffers
from pmtool.interface.host import HostMemory
from pmtool.interface.layout import Layout
from pmtool.models.bundle import Bundle
from pmtool.sampling.lanes import Lanes
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

    fails: ClassVar[bool] = False
    says: ClassVar[list[str]] = []
    wrong_profile: ClassVar[int | None] = None

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
        if self.fails:
            self.engine.trt.log.errors += self.says
            return False
        outputs = self.engine.output_shapes(self.shapes)
        targets = {name: self._array(name, shape) for name, shape in outputs.items()}
        for target in targets.values():
            target[:] = np.nan
        inputs = {name: self._array(name, shape) for name, shape in self.shapes.items()}
        results = self.engine.session.run(list(targets), inputs)
        for target, result in zip(targets.values(), results, strict=True):
            target[:] = np.nan if self.profile == self.wrong_profile else result
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
    """As much of TensorRT as the backend uses."""

    __version__ = "10.16.0"
    TensorIOMode = Mode
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="managed by the user")

    def __init__(self) -> None:
        super().__init__("tensorrt")
        self.log = SimpleNamespace(errors=[])
        self.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=self.deserialize)

    def deserialize(self, content: bytes) -> FakeEngine | None:
        if content == b"damaged":
            self.log.errors.append("incompatible\ndevice")
            return None
        return FakeEngine(content, self)

    @staticmethod
    def build(trt: Any, name: str, model: Any, profiles: Any, **options: Any) -> Build:
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
def backend(trt: FakeTensorRT) -> TensorRTBackend:
    engines = Engines(Bundle.load(), GPU, "float32", max_windows=20)
    return TensorRTBackend(engines, Memory(), "cuda:0")


LAYOUT = Layout(Bundle.load().hyperparameters)


@pytest.mark.parametrize("graph", ["window", "row1", "row3", "known2", "quantile1", "mean3"])
def test_graphs_give_what_onnx_runtime_gives(graph: str, backend: TensorRTBackend) -> None:
    expected = OnnxRuntimeBackend(backend.engines.bundle)
    (error,) = differences([graph], LAYOUT, expected, backend).values()
    assert error < 1e-5


@pytest.mark.parametrize("graph", ["row2", "known3"])
def test_every_profile_is_checked(
    graph: str, trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even of engines for the fewest windows: one that is wrong in a single profile is found."""
    monkeypatch.setattr(accuracy, "GRAPHS", (graph,))
    engines = Engines(Bundle.load(), GPU, "float32", max_windows=LEAST_WINDOWS)
    exact = OnnxRuntimeBackend(engines.bundle)
    right = TensorRTBackend(engines, Memory(), "cuda:0")
    assert engine_errors(exact, right)[graph] < 1e-5
    for number in range(3):
        monkeypatch.setattr(FakeContext, "wrong_profile", number)
        wrong = TensorRTBackend(engines, Memory(), "cuda:0")
        assert math.isnan(engine_errors(exact, wrong)[graph])


def test_windows_are_run_in_as_many_calls_as_the_engine_needs(backend: TensorRTBackend) -> None:
    """Of 128 pixels it takes one at once."""
    buffers = Buffers(backend.memory, LAYOUT, 128, 96, 3, windows=3)
    rng = np.random.default_rng(0)
    buffers.above[:], buffers.below[:] = rng.uniform(-1, 1, (2, *buffers.above.shape))
    program = backend.bind("window", buffers.window(0))
    assert isinstance(program, InTurn)
    assert len(program.programs) == 3
    program.run()
    found = buffers.planes["mixture"].copy()
    OnnxRuntimeBackend(backend.engines.bundle).bind("window", buffers.window(0)).run()
    np.testing.assert_allclose(found, buffers.planes["mixture"], atol=1e-4)


def test_a_window_as_by_onnx_runtime(backend: TensorRTBackend) -> None:
    """All graphs together, with rows and columns that are known."""
    rng = np.random.default_rng(0)
    size = 64 + 2 * LAYOUT.hyperparameters.margin
    pairs = [tuple(rng.uniform(-0.1, 0.1, (2, size, size)).astype(np.float32)) for _ in range(2)]
    known = rng.uniform(-0.1, 0.1, (64, 64, 2)).astype(np.float32)
    slices = []
    for engine in (OnnxRuntimeBackend(backend.engines.bundle), backend):
        buffers = Buffers(engine.memory, LAYOUT, 64, 64, 2, windows=2)
        lanes = Lanes(engine, buffers, 32, "quantile")
        lanes.prepare(pairs)
        lanes.take(np.random.default_rng(1).random((64, 64, 2), np.float32))
        slices.append(lanes.generate(known, known_rows=32))
    expected, found = slices
    np.testing.assert_array_equal(found[:32], known[:32])
    assert (found == expected).mean() > 0.999
    assert expected[32:, 32:].std() > 0.01


def test_programs_share_scratch_that_grows(backend: TensorRTBackend) -> None:
    small, large = (
        backend.bind("row1", Buffers(backend.memory, LAYOUT, 64, 64, lanes).row(1))
        for lanes in (1, 9)
    )
    assert isinstance(small, EngineProgram)
    assert isinstance(large, EngineProgram)
    for program in (small, large, small):
        program.run()
    found = [program.context.context.scratch for program in (small, large)]
    assert found == 2 * [backend.scratch.place()[0]]


def test_scratch_is_there_again_after_memory_ran_out(
    backend: TensorRTBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that a larger batch asked for in vain had been given back before."""
    small = backend.bind("row1", Buffers(backend.memory, LAYOUT, 64, 64, 1).row(1))
    small.run()
    with monkeypatch.context() as full:

        def fail(*shape: int) -> Float32s:
            raise MemoryBudgetError("the GPU is out of memory")

        full.setattr(backend.memory, "zeros", fail)
        with pytest.raises(MemoryBudgetError):
            backend.scratch.reserve(2**30)
    small.run()
    assert isinstance(small, EngineProgram)
    assert small.context.context.scratch == backend.scratch.place()[0]


def test_scratch_that_was_too_small_is_released_first() -> None:
    """Even by a program that ran on it."""

    class Counting(Memory):
        made: ClassVar[list[weakref.ref[Any]]] = []

        def zeros(self, *shape: int) -> Float32s:
            assert not any(before() is not None for before in self.made)
            array = super().zeros(*shape)
            self.made.append(weakref.ref(array.base))
            return array

    scratch = Scratch(Counting())
    for size in (4096, 8192, 8192, 100):
        scratch.reserve(size)
        address, room = scratch.place()
        assert room >= size
        assert address % ALIGNMENT == 0
    assert len(Counting.made) == 2


def test_programs_of_the_same_shapes_share_what_is_dear_to_make(backend: TensorRTBackend) -> None:
    """Each of them runs on its own arrays, in whatever order."""
    buffers = [Buffers(backend.memory, LAYOUT, 64, 64, 3) for _ in range(3)]
    rng = np.random.default_rng(0)
    shares = rng.normal(0, 0.3, (2, *buffers[0].rows["shares0"].shape))
    programs = [backend.bind("row1", x.row(1)) for x in buffers[:2]]
    contexts = {id(program.context) for program in programs if isinstance(program, EngineProgram)}
    assert len(contexts) == 1
    for number in (0, 1, 0):
        for x in (buffers[number], buffers[2]):
            x.reset()
            x.rows["shares0"][:] = shares[number]
        programs[number].run()
        OnnxRuntimeBackend(backend.engines.bundle).bind("row1", buffers[2].row(1)).run()
        found, expected = (x.rows["h_shares0"] for x in (buffers[number], buffers[2]))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_dropped_is_freed(backend: TensorRTBackend) -> None:
    """At once, without the garbage collector: a smaller batch needs the memory of a larger one."""
    buffers = Buffers(backend.memory, LAYOUT, 64, 64, 3)
    program = backend.bind("row1", buffers.row(1))
    assert isinstance(program, EngineProgram)
    program.run()
    arrays = [weakref.ref(array) for array in program.placed.values()]
    engine = weakref.ref(backend._engine("row1"))
    gc.disable()
    try:
        del buffers, program
        assert not any(array() is not None for array in arrays)
        del backend._loaded["row1"]
        assert engine() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("width", "lanes"), [(64, 21), (256, 6), (516, 1)])
def test_more_than_the_engine_takes(width: int, lanes: int, backend: TensorRTBackend) -> None:
    buffers = Buffers(backend.memory, LAYOUT, 64, width, lanes)
    with pytest.raises(MemoryBudgetError, match="row1 was not built for so many windows"):
        backend.bind("row1", buffers.row(1))


def test_wrong_arrays(backend: TensorRTBackend) -> None:
    arrays = Buffers(backend.memory, LAYOUT, 64, 64, 1).row(1)
    with pytest.raises(ModelError, match=r"graph row1 is not ours \(novel\): export it again"):
        backend.bind("row1", {**arrays, "novel": arrays["residuals"]})
    del arrays["residuals"]
    with pytest.raises(ModelError, match=r"not ours \(residuals\)"):
        backend.bind("row1", arrays)


def test_the_gpu_runs_out_of_memory(
    backend: TensorRTBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = backend.bind("row1", Buffers(backend.memory, LAYOUT, 64, 64, 1).row(1))
    monkeypatch.setattr(FakeContext, "fails", True)
    for said in (["Cuda Runtime (out of memory)"], ["Error Code 2: OutOfMemory", "and so it ends"]):
        monkeypatch.setattr(FakeContext, "says", said)
        with pytest.raises(MemoryBudgetError, match="out of memory: the engine row1 failed"):
            program.run()


def test_an_engine_that_cannot_be_loaded(
    backend: TensorRTBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "build_engine", lambda *_, **__: Build(b"damaged", b""))
    backend.engines.log.errors.append("out of memory, some time ago")
    with pytest.raises(UsageError, match=r"row1 cannot be loaded \(incompatible device\); use an"):
        backend.bind("row1", Buffers(backend.memory, LAYOUT, 64, 64, 1).row(1))


def test_check_is_made_once_and_kept(
    backend: TensorRTBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "GRAPHS", ("row1", "quantile1"))
    check_engines(backend)
    errors = backend.engines.manifest()["errors"]
    assert list(errors) == ["row1", "quantile1"]
    assert errors["row1"]["tensorrt"] < 1e-5
    assert error_table(errors).splitlines()[1].split()[0] == "row1"
    monkeypatch.setattr(accuracy, "differences", None)
    check_engines(backend)


@pytest.mark.parametrize("error", [2e-3, float("nan")])
def test_an_engine_that_computes_something_else(error: float, backend: TensorRTBackend) -> None:
    backend.engines.note_errors({"row1": {"rounding": 0.0, "tensorrt": error}})
    with pytest.raises(UsageError, match="the engine row1 differs from ONNX Runtime by"):
        check_engines(backend)
