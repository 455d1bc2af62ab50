"""ONNX Runtime on the CPU, with pmtool's own loops for rows and pixels."""

from __future__ import annotations

import os
import threading
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from pmtool.backends.loops import Loops, cpu_loops
from pmtool.choices import Precision
from pmtool.errors import (
    OUT_OF_MEMORY,
    MemoryBudgetError,
    ModelError,
    PmtoolError,
    UsageError,
    is_memory_shortage,
)
from pmtool.interface.host import HostMemory
from pmtool.interface.protocol import Array, Arrays, Program
from pmtool.models.bundle import Bundle


class OnnxRuntimeBackend:
    """The bundle's graphs in ONNX Runtime, in float32.

    Parameters
    ----------
    bundle
        The model.
    threads
        Number of threads that one call may use.
    loops
        pmtool's own loops, used instead of ONNX Runtime, which is slow at many small steps.

    Raises
    ------
    UsageError
        If ONNX Runtime is not installed.
    """

    name = "onnxruntime-cpu"
    device = "cpu"
    precision: Precision = "float32"
    windows_per_call = 1
    keeps_programs = False

    def __init__(self, bundle: Bundle, threads: int = 1, loops: Loops | None = None) -> None:
        self.bundle, self.threads, self.loops = bundle, threads, loops
        self.runtime = runtime()
        self.memory: Any = HostMemory()
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`; raises `ModelError` for a graph that cannot be loaded."""
        if self.loops is not None and self.loops.covers(graph):
            return self.loops.bind(graph, arrays)
        with self._lock:  # workers share the loaded sessions
            if graph not in self._sessions:
                self._sessions[graph] = self._load(graph)
        return OnnxRuntimeProgram(self, graph, self._sessions[graph], arrays)

    def _load(self, graph: str) -> Any:
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = self._model(graph)
        try:
            return self.runtime.InferenceSession(
                model,
                options,
                providers=self._providers(),
                enable_fallback=0,  # to the CPU, with a message instead of the error
            )
        except Exception as error:
            raise self._refusal(graph, error) from error

    def _model(self, graph: str) -> str | bytes:
        """Path of the graph's ONNX file, or its content."""
        return str(self.bundle.graph(graph))

    def _providers(self) -> list[Any]:
        """ONNX Runtime's execution providers in order of preference."""
        return ["CPUExecutionProvider"]

    def run_options(self) -> Any:
        """ONNX Runtime's options for every run."""
        return None

    def _refusal(self, graph: str, error: Exception) -> PmtoolError:
        """Error to raise if ONNX Runtime does not load a graph."""
        return as_model_error(error, f"ONNX Runtime cannot load {self.bundle.graph(graph)}")

    def failure(self, graph: str, error: Exception) -> PmtoolError:
        """Error to raise if a loaded graph does not accept pmtool's arrays."""
        return as_model_error(error, f"the model's graph {graph} is not ours")

    def place(self, array: Array) -> tuple[Any, ...]:
        """Location of an array, as the arguments of ONNX Runtime's ``bind_input``."""
        assert array.flags.c_contiguous
        assert array.dtype == np.float32
        return "cpu", 0, np.float32, array.shape, array.ctypes.data


class OnnxRuntimeProgram:
    """A session bound to arrays by their addresses; the arrays must not be moved.

    Parameters
    ----------
    backend
        Backend of the session.
    graph
        Name of the graph.
    session
        Session of ONNX Runtime with the graph.
    arrays
        Inputs and outputs by name.
    """

    def __init__(
        self, backend: OnnxRuntimeBackend, graph: str, session: Any, arrays: Arrays
    ) -> None:
        self.backend, self.graph, self.arrays = backend, graph, dict(arrays)
        self.session, self.binding = session, session.io_binding()
        self.options = backend.run_options()
        try:
            self._bind()
        except ModelError:
            raise
        except Exception as error:
            raise backend.failure(graph, error) from error

    def run(self) -> None:
        """See `Program.run`."""
        try:
            self.session.run_with_iobinding(self.binding, self.options)
        except Exception as error:
            raise self.backend.failure(self.graph, error) from error

    def _bind(self) -> None:
        inputs = {value.name for value in self.session.get_inputs()}
        outputs = {value.name for value in self.session.get_outputs()}
        for name, array in self.arrays.items():
            place = self.backend.place(array)
            if name not in inputs | outputs:
                raise ModelError(
                    f"the model's graph {self.graph} is not ours, it has no {name}: export the "
                    "model again"
                )
            if name in inputs:
                self.binding.bind_input(name, *place)
            if name in outputs:
                self.binding.bind_output(name, *place)


def check(devices: tuple[str, ...], precision: Precision) -> None:
    """Raise `UsageError` unless the precision is float32 and ONNX Runtime is installed."""
    if precision != "float32":
        other = "openvino" if precision == "bfloat16" else "torch"
        raise UsageError(
            f"{OnnxRuntimeBackend.name} computes in float32, not {precision}: leave --precision "
            f"out, or take --backend {other}"
        )
    runtime()


def load(bundle: Bundle, device: str, precision: Precision, threads: int) -> OnnxRuntimeBackend:
    """Load the bundle's graphs on the CPU."""
    return OnnxRuntimeBackend(bundle, threads, cpu_loops(bundle))


def as_model_error(error: Exception, what: str) -> PmtoolError:
    """Convert an engine's error (they share no public base class) into one of pmtool's."""
    if is_memory_shortage(error):
        return MemoryBudgetError(OUT_OF_MEMORY)
    return ModelError(f"{what}: export the model again")


def runtime() -> ModuleType:
    """Import ONNX Runtime; raises `UsageError` if it is not installed."""
    try:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would report each run
        module = import_module("onnxruntime")
        module.set_default_logger_severity(4)  # no warnings about GPUs and other providers
        return module
    except ImportError as error:
        if is_memory_shortage(error):
            raise
        raise UsageError(
            "ONNX Runtime is not installed: pip install 'pmtool[cpu]', or 'pmtool[gpu]' on a "
            "machine with an NVIDIA GPU"
        ) from error
