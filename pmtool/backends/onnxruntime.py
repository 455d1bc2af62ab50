"""ONNX Runtime on the CPU, with pmtool's own loop for the pixels."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from pmtool.backends.pixel_loop import PixelLoop, cpu_pixels
from pmtool.choices import Precision
from pmtool.errors import (
    OUT_OF_MEMORY,
    MemoryBudgetError,
    ModelError,
    PmtoolError,
    UsageError,
    is_memory_shortage,
)
from pmtool.interface.graph_names import is_pixel_graph
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
    pixels
        Loop over a row's pixels, used instead of ONNX Runtime, which is slow at the pixel graph's
        many small steps.

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

    def __init__(self, bundle: Bundle, threads: int = 1, pixels: PixelLoop | None = None) -> None:
        self.bundle, self.threads, self.pixels = bundle, threads, pixels
        self.runtime = runtime()
        self.memory: Any = HostMemory()
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`; raises `ModelError` for a graph that cannot be loaded."""
        if self.pixels is not None and is_pixel_graph(graph):
            return self.pixels.bind(graph, arrays)
        with self._lock:  # workers share the loaded sessions
            if graph not in self._sessions:
                self._sessions[graph] = self._load(graph)
        session, options = self._sessions[graph], self._run_options()
        failure = partial(self._failure, graph)
        return OnnxRuntimeProgram(graph, session, arrays, self._place, options, failure)

    def _load(self, graph: str) -> Any:
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = self._model(graph)
        try:
            return self.runtime.InferenceSession(model, options, providers=self._providers())
        except Exception as error:
            raise self._refusal(graph, error) from error

    def _model(self, graph: str) -> str | bytes:
        """Path of the graph's ONNX file, or its content."""
        return str(self.bundle.graph(graph))

    def _providers(self) -> list[Any]:
        """ONNX Runtime's execution providers in order of preference."""
        return ["CPUExecutionProvider"]

    def _run_options(self) -> Any:
        return None

    def _refusal(self, graph: str, error: Exception) -> PmtoolError:
        """Error to raise if ONNX Runtime does not load a graph."""
        return as_model_error(error, f"ONNX Runtime cannot load {self.bundle.graph(graph)}")

    def _failure(self, graph: str, error: Exception) -> PmtoolError:
        """Error to raise if a loaded graph does not accept pmtool's arrays."""
        return as_model_error(error, f"the model's graph {graph} is not ours")

    def _place(self, array: Array) -> tuple[Any, ...]:
        """Location of an array, as the arguments of ONNX Runtime's ``bind_input``."""
        assert array.flags.c_contiguous
        assert array.dtype == np.float32
        return "cpu", 0, np.float32, array.shape, array.ctypes.data


class OnnxRuntimeProgram:
    """A session bound to arrays by their addresses; the arrays must not be moved.

    Parameters
    ----------
    graph
        Name of the graph.
    session
        Session of ONNX Runtime with the graph.
    arrays
        Inputs and outputs by name.
    place
        Returns the location of an array, as the arguments of ``bind_input``.
    options
        Options of every run.
    failure
        Converts an error of ONNX Runtime into one of pmtool's.
    """

    def __init__(
        self,
        graph: str,
        session: Any,
        arrays: Arrays,
        place: Callable[[Array], tuple[Any, ...]],
        options: Any,
        failure: Callable[[Exception], PmtoolError],
    ) -> None:
        self.graph, self.session, self.binding = graph, session, session.io_binding()
        self.place, self.options, self.failure = place, options, failure
        self.inputs = {value.name for value in session.get_inputs()}
        self.outputs = {value.name for value in session.get_outputs()}
        self.arrays = dict(arrays)
        try:
            self._bind(arrays)
        except ModelError:
            raise
        except Exception as error:
            raise self.failure(error) from error

    def run(self) -> None:
        """See `Program.run`."""
        try:
            self.session.run_with_iobinding(self.binding, self.options)
        except Exception as error:
            raise self.failure(error) from error

    def _bind(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            place = self.place(array)
            if name not in self.inputs | self.outputs:
                raise ModelError(
                    f"the model's graph {self.graph} is not ours, it has no {name}: export the "
                    "model again"
                )
            if name in self.inputs:
                self.binding.bind_input(name, *place)
            if name in self.outputs:
                self.binding.bind_output(name, *place)


def check(devices: tuple[str, ...], precision: Precision) -> None:
    """Raise `UsageError` unless the precision is float32 and ONNX Runtime is installed."""
    if precision != "float32":
        raise UsageError(
            f"{OnnxRuntimeBackend.name} computes in float32, not {precision}: leave --precision "
            "out, or take --backend torch"
        )
    runtime()


def load(bundle: Bundle, device: str, precision: Precision, threads: int) -> OnnxRuntimeBackend:
    """Load the bundle's graphs on the CPU."""
    return OnnxRuntimeBackend(bundle, threads, cpu_pixels(bundle))


def as_model_error(error: Exception, what: str) -> PmtoolError:
    """Convert an engine's error (they share no public base class) into one of pmtool's."""
    if is_memory_shortage(error):
        return MemoryBudgetError(OUT_OF_MEMORY)
    return ModelError(f"{what}: export the model again")


def runtime() -> ModuleType:
    """Import ONNX Runtime; raises `UsageError` if it is not installed."""
    try:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would report each run
        return import_module("onnxruntime")
    except ImportError as error:
        if is_memory_shortage(error):
            raise
        raise UsageError(
            "ONNX Runtime is not installed: pip install 'pmtool[cpu]', or 'pmtool[gpu]' on a "
            "machine with an NVIDIA GPU"
        ) from error
