"""The TensorRT backend, on the stand-in for TensorRT of conftest.py."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pmtool.arrays import Float32s
from pmtool.backends import accuracy
from pmtool.backends.accuracy import ENGINE, check_engines, engine_errors, error_table
from pmtool.backends.differences import differences
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.backends.tensorrt import ALIGNMENT, EngineProgram, InTurn, Scratch, TensorRTBackend
from pmtool.errors import MemoryBudgetError, ModelError, UsageError
from pmtool.export import engines as caching
from pmtool.export.profiles import LEAST_WINDOWS
from pmtool.export.tensorrt import Build
from pmtool.interface.buffers import Buffers
from pmtool.interface.graph_names import is_pixel_graph
from pmtool.interface.layout import Layout
from pmtool.models.bundle import Bundle
from pmtool.sampling.lanes import Lanes
from pmtool.sampling.windows import Window
from tests.conftest import group_of

LAYOUT = Layout(Bundle.load().hyperparameters)
Load = Callable[[int], TensorRTBackend]


@pytest.fixture
def backend(load_backend: Load) -> TensorRTBackend:
    return load_backend(20)


@pytest.mark.parametrize("graph", ["window", "row1", "row3", "known2", "quantile1", "mean3"])
def test_graphs_give_what_onnx_runtime_gives(graph: str, backend: TensorRTBackend) -> None:
    expected = OnnxRuntimeBackend(backend.engines.bundle)
    (error,) = differences([graph], LAYOUT, expected, backend).values()
    assert error < 1e-5


@pytest.mark.parametrize("graph", ["row2", "known3"])
def test_every_profile_is_checked(
    graph: str, trt: Any, load_backend: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even of engines for the fewest windows: one that is wrong in a single profile is found."""
    monkeypatch.setattr(accuracy, "GRAPHS", (graph,))
    exact = OnnxRuntimeBackend(Bundle.load())
    assert engine_errors(exact, load_backend(LEAST_WINDOWS))[graph] < 1e-5
    for number in range(3):
        trt.wrong_profile = number
        assert math.isnan(engine_errors(exact, load_backend(LEAST_WINDOWS))[graph])


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
    above, below = rng.uniform(-0.1, 0.1, (2, 2, 1, size, size)).astype(np.float32)
    thickness = np.array([0.3, 1], np.float32).reshape(2, 1, 1, 1)
    known = rng.uniform(-0.1, 0.1, (64, 64, 2)).astype(np.float32)
    slices = []
    for engine in (OnnxRuntimeBackend(backend.engines.bundle), backend):
        buffers = Buffers(engine.memory, LAYOUT, 64, 64, 2, windows=2)
        lanes = Lanes(engine, buffers, 32, "quantile")
        group = group_of(LAYOUT.hyperparameters, engine.memory, above, below, thickness, known)
        batch = [(lane, Window(0, 0, 64, 64, 32, 32)) for lane in range(2)]
        lanes.prepare(group, batch)
        lanes.take(np.random.default_rng(1).random((64, 64, 2), np.float32))
        lanes.generate(group, batch)
        slices.append(np.stack([group.target(*place) for place in batch], axis=-1))
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


def test_outputs_that_are_copied_share_memory(backend: TensorRTBackend) -> None:
    """The caches of all depths: each program copies them before another one runs."""
    buffers = Buffers(backend.memory, LAYOUT, 64, 64, 2)
    few, many = (backend.bind(f"row{depth}", buffers.row(depth)) for depth in (1, 3))
    assert isinstance(few, EngineProgram)
    assert isinstance(many, EngineProgram)
    copied = {name for name in few.placed if name.endswith("_cache_next")}
    assert len(copied) == len(few.after)
    for name in copied:
        assert few.placed[name] is many.placed[name]
        assert few.placed[name] is not buffers.row(1)[name]


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


def test_scratch_that_was_too_small_is_released_first(
    backend: TensorRTBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even by a program that ran on it."""
    made: list[weakref.ref[Any]] = []
    zeros = backend.memory.zeros

    def counted(*shape: int) -> Float32s:
        assert not any(before() is not None for before in made)
        array: Float32s = zeros(*shape)
        made.append(weakref.ref(array.base))
        return array

    monkeypatch.setattr(backend.memory, "zeros", counted)
    scratch = Scratch(backend.memory)
    for size in (4096, 8192, 8192, 100):
        scratch.reserve(size)
        address, room = scratch.place()
        assert room >= size
        assert address % ALIGNMENT == 0
    assert len(made) == 2


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


@pytest.mark.parametrize(
    "reasons", [["Cuda Runtime (out of memory)"], ["Error Code 2: OutOfMemory", "and so it ends"]]
)
def test_the_gpu_runs_out_of_memory(reasons: list[str], trt: Any, backend: TensorRTBackend) -> None:
    program = backend.bind("row1", Buffers(backend.memory, LAYOUT, 64, 64, 1).row(1))
    trt.reasons = reasons
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
    again: list[Any] = []

    def differences(*arguments: Any) -> dict[str, float]:
        again.append(arguments)
        return {"row1": 0.0, "quantile1": 0.0}

    monkeypatch.setattr(accuracy, "differences", differences)
    check_engines(backend)
    assert not again
    (backend.engines.folder / "row1.engine").unlink()
    check_engines(backend)
    assert again


def test_check_is_made_once_with_a_kernel_and_again_with_another(
    backend: TensorRTBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes the place of the pixel graphs' engines, which are never built."""
    exact, checks = OnnxRuntimeBackend(backend.engines.bundle), []

    class Kernel:
        version = "kernel 1"
        covers = staticmethod(is_pixel_graph)

        def bind(self, graph: str, arrays: Any) -> Any:
            checks.append(graph)
            return exact.bind(graph, arrays)

    kernel = Kernel()
    monkeypatch.setattr(backend, "loops", kernel)
    monkeypatch.setattr(accuracy, "GRAPHS", ("row1", "quantile1"))
    check_engines(backend)
    assert list(backend.engines.manifest()["engines"]) == ["row1"]
    once = len(checks)
    check_engines(backend)
    assert len(checks) == once
    kernel.version = "kernel 2"
    check_engines(backend)
    assert len(checks) > once
    wrong = {"row1": {ENGINE: 0.0}, "quantile1": {ENGINE: 1.0}}
    backend.engines.note_errors(wrong, kernel.version)
    with pytest.raises(UsageError, match="pmtool's kernel for quantile1 differs"):
        check_engines(backend)


@pytest.mark.parametrize("error", [2e-3, float("nan")])
def test_an_engine_that_computes_something_else(
    error: float, backend: TensorRTBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "GRAPHS", ("row1",))
    backend.engines.engine("row1")
    backend.engines.note_errors({"row1": {"rounding": 0.0, "tensorrt": error}}, "")
    with pytest.raises(UsageError, match="the engine row1 differs from ONNX Runtime by"):
        check_engines(backend)
