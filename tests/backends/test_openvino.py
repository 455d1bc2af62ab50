"""OpenVINO for the window graph, beside ONNX Runtime."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from pmtool.backends import openvino as engine
from pmtool.backends.accuracy import TOLERANCES
from pmtool.backends.differences import SIZE, differences, random_arrays
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.backends.openvino import OpenVinoBackend, check, core, load
from pmtool.backends.selection import choose_engine
from pmtool.errors import MemoryBudgetError, ModelError, UsageError
from pmtool.interface.buffers import Buffers
from pmtool.interface.graph_names import GRAPHS
from pmtool.interface.layout import Layout
from pmtool.models.bundle import Bundle
from pmtool.phantom.chest import chest_phantom
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import SlicePair
from pmtool.sampling.sampler import Sampler
from pmtool.system import extras

if find_spec("openvino") is None:
    pytest.skip("OpenVINO is not installed", allow_module_level=True)
computes_bfloat16 = pytest.mark.skipif(
    "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this CPU has no instructions for bfloat16",
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


def window_arrays(backend: OpenVinoBackend, size: int = SIZE) -> dict[str, Any]:
    layout = Layout(backend.bundle.hyperparameters)
    buffers = Buffers(backend.memory, layout, size, size, 1, 1)
    return random_arrays("window", buffers)


def test_graphs_compute_what_they_do_in_onnx_runtime(bundle: Bundle) -> None:
    layout = Layout(bundle.hyperparameters)
    found = differences(GRAPHS, layout, OnnxRuntimeBackend(bundle), OpenVinoBackend(bundle))
    assert found.pop("window") == pytest.approx(0, abs=1e-4)
    assert set(found.values()) == {0.0}


@computes_bfloat16
def test_bfloat16_does_not_round_the_midpoint(bundle: Bundle) -> None:
    """Its mean is a grey level, which is finer than bfloat16."""
    backend, exact = OpenVinoBackend(bundle, "bfloat16"), OnnxRuntimeBackend(bundle)
    errors = differences(["window"], Layout(bundle.hyperparameters), exact, backend)
    assert 1e-3 < errors["window"] < TOLERANCES["bfloat16"]
    midpoints = []
    for engine_ in (backend, exact):
        arrays = window_arrays(backend)
        engine_.bind("window", arrays).run()
        midpoints.append(arrays["mixture"][..., -2:])
    assert np.abs(midpoints[0] - midpoints[1]).max() < 1e-5


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("bfloat16", marks=computes_bfloat16)]
)
def test_the_number_of_threads_changes_nothing(bundle: Bundle, precision: Any) -> None:
    found = []
    for threads in (1, 2, 3):
        backend = OpenVinoBackend(bundle, precision, threads)
        arrays = window_arrays(backend, 64)
        backend.bind("window", arrays).run()
        found.append(arrays)
    for other in found[1:]:
        assert all(np.array_equal(found[0][name], other[name]) for name in other)


def test_workers_that_meet_have_a_graph_each_and_leave_it_to_the_next(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would wait for each other otherwise; graphs for other shapes are dropped."""
    backend, compiled = OpenVinoBackend(bundle), list[Any]()

    def compiling(self: OpenVinoBackend, shapes: Any) -> Any:
        compiled.append((dict(shapes)["above"], request := object()))
        return request

    monkeypatch.setattr(OpenVinoBackend, "_compiled", compiling)
    shapes, meeting = [(("above", (1, 1, n, n)),) for n in (64, 96)], Barrier(2)

    def work(number: int) -> Any:
        with backend.request(shapes[0]) as request:
            meeting.wait()
        return request

    with ThreadPoolExecutor(2) as pool:
        first = set(pool.map(work, range(2)))
        assert set(pool.map(work, range(2))) == first
    assert [shape for shape, _ in compiled] == [(1, 1, 64, 64)] * 2
    with backend.request(shapes[1]), backend.request(shapes[0]):
        pass
    assert [shape[-1] for shape, _ in compiled] == [64, 64, 96, 64]


def test_makes_the_same_slice_as_onnx_runtime(bundle: Bundle) -> None:
    """But for a pixel at a threshold, which is one grey level off, and those that see it."""
    import SimpleITK as sitk

    volume = sitk.GetArrayFromImage(chest_phantom(64, 3, (5.6, 5.6, 1.25))).clip(-1024)
    pairs = [SlicePair(volume[0], volume[2], 0.5, number) for number in range(2)]
    slices = []
    for backend in ("onnxruntime-cpu", "openvino"):
        options = SamplerOptions(backend=backend, precision="float32", threads=2)
        sampler = Sampler(bundle, options)
        slices.append(np.stack([values for _, values in sorted(sampler.generate(pairs))]))
    off = np.abs(slices[0].astype(int) - slices[1]).ravel()
    assert off.max() <= 3
    assert (off > 0).mean() < 0.01


def test_it_is_taken_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_engine("openvino") == ("openvino", ("cpu",), "float32")
    monkeypatch.setitem(sys.modules, "openvino", None)
    core.cache_clear()
    with pytest.raises(UsageError, match=r"not installed: pip install 'pmtool\[openvino\]'"):
        choose_engine("openvino")


def test_it_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a library of its plugin is missing."""
    fails = Mock(side_effect=RuntimeError("Cannot load library"))
    monkeypatch.setattr(engine, "openvino", lambda: SimpleNamespace(Core=fails))
    core.cache_clear()
    with pytest.raises(UsageError, match="OpenVINO does not work here: use another --backend"):
        check(("cpu",), "float32")


def test_precisions_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="float32 or bfloat16, not float16: leave --precision"):
        check(("cpu",), "float16")
    other_cpu = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8"])
    monkeypatch.setattr(engine, "core", lambda: other_cpu)
    check(("cpu",), "float32")
    with pytest.raises(UsageError, match="this CPU has no instructions for bfloat16"):
        check(("cpu",), "bfloat16")
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"openvino in bfloat16 needs onnx: pip install 'pmtool\["):
        check(("cpu",), "bfloat16")


@pytest.mark.parametrize(
    ("failure", "error", "message"),
    [
        ("Cannot find a layer", ModelError, r"OpenVINO cannot load .*window.onnx: export the"),
        ("Exception from src/inference\ncan't alloc", MemoryBudgetError, "out of memory"),
    ],
)
def test_a_graph_that_is_not_loaded(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
    error: type[Exception],
    message: str,
) -> None:
    backend = load(bundle, "cpu", "float32", 1)
    program = backend.bind("window", window_arrays(backend))

    compile_model = Mock(side_effect=RuntimeError(failure))
    backend.core = SimpleNamespace(read_model=backend.core.read_model, compile_model=compile_model)
    with pytest.raises(error, match=message):
        program.run()


def test_a_graph_of_another_network(bundle: Bundle) -> None:
    backend = OpenVinoBackend(bundle)
    arrays = window_arrays(backend)
    arrays["mixture"] = arrays["mixture"][..., 1:].copy()
    with pytest.raises(ModelError, match="the model's graph window is not ours: export the model"):
        backend.bind("window", arrays).run()


IMPORT = """
import sys
from pmtool.backends.openvino import core
core()
assert "absl" not in sys.modules, "it would close sys.stderr for others that configure logging"
import openvino_telemetry
"""


def test_nothing_is_reported(tmp_path: Path) -> None:
    """OpenVINO would report that it was imported; others can still import its telemetry."""
    (tmp_path / "openvino_telemetry.py").write_text("print('imported')\nTelemetry = None\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command, environment = [sys.executable, "-c", IMPORT], {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "imported\n"  # by the last line of the script


@pytest.mark.skipif(sys.platform != "linux", reason="for the C library of Linux")
def test_signals_are_handled_on_the_stack_as_before(bundle: Bundle) -> None:
    """Not on one of OpenVINO's, which two signals at once overflow (on a CPU with AMX)."""

    class Stack(ctypes.Structure):
        _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    def stack() -> tuple[int, int]:
        found = Stack()
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
        return found.start, found.size

    before = stack()
    core.cache_clear()
    backend = OpenVinoBackend(bundle)
    backend.bind("window", window_arrays(backend)).run()
    assert stack() == before
