"""OpenVINO on a CPU, for the window graph; ONNX Runtime runs the other graphs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

from pmtool.backends.loops import Loops, cpu_loops
from pmtool.backends.onnxruntime import OnnxRuntimeBackend, as_model_error, runtime
from pmtool.choices import Precision
from pmtool.errors import UsageError, is_memory_shortage
from pmtool.interface.protocol import Arrays, Program
from pmtool.models.bundle import Bundle
from pmtool.system.extras import require

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of arrays."""


class OpenVinoBackend(OnnxRuntimeBackend):
    """The window graph in OpenVINO, and the other graphs in ONNX Runtime, in float32.

    OpenVINO computes the window graph's convolutions faster. Rows and pixels are computed by
    pmtool's own loops.

    Parameters
    ----------
    bundle
        The model.
    precision
        Type of the factors of the window graph's products: ``float32``, or ``bfloat16`` as in
        `pmtool.export.precision`.
    threads, loops
        See `OnnxRuntimeBackend`.

    Raises
    ------
    UsageError
        If ONNX Runtime or OpenVINO is not installed.
    """

    name = "openvino"

    def __init__(
        self,
        bundle: Bundle,
        precision: Precision = "float32",
        threads: int = 1,
        loops: Loops | None = None,
    ) -> None:
        super().__init__(bundle, threads, loops)
        self.precision, self.core, self.tensor = precision, core(), openvino().Tensor
        self._shapes: Shapes = ()
        self._idle: list[Any] = []

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`; raises `ModelError` for a graph that cannot be loaded."""
        if graph != "window":
            return super().bind(graph, arrays)
        return OpenVinoProgram(self, arrays)

    @contextmanager
    def request(self, shapes: Shapes) -> Iterator[Any]:
        """Lend an inference request of the window graph for arrays of these shapes.

        There are as many as are lent at the same time, each with a compiled graph of its own,
        because requests of one graph wait for each other. Those for other shapes are dropped.
        """
        with self._lock:
            if shapes != self._shapes:
                self._shapes, self._idle = shapes, []
            idle = self._idle
            request = idle.pop() if idle else None
        if request is None:
            request = self._compiled(shapes)
        yield request
        idle.append(request)

    def _compiled(self, shapes: Shapes) -> Any:
        """Compile the window graph for fixed shapes, for which OpenVINO is a quarter faster."""
        options = {
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",  # of what the graph itself does not round
            "ENABLE_CPU_PINNING": False,  # all workers would be pinned to the same cores
        }
        try:
            with self._lock:
                graph = self._graph.clone()
            inputs = {name for value in graph.inputs for name in value.names}
            graph.reshape({name: shape for name, shape in shapes if name in inputs})
            return self.core.compile_model(graph, "CPU", options).create_infer_request()
        except Exception as error:
            raise as_model_error(
                error, f"OpenVINO cannot load {self.bundle.graph('window')}"
            ) from error

    @cached_property
    def _graph(self) -> Any:
        """The window graph for any shapes."""
        path = self.bundle.graph("window")
        if self.precision == "float32":
            return self.core.read_model(path)
        from pmtool.export.precision import serialised

        return self.core.read_model(serialised(path, self.precision))


class OpenVinoProgram:
    """The window graph bound to arrays, which must not be moved."""

    def __init__(self, backend: OpenVinoBackend, arrays: Arrays) -> None:
        self.backend, tensor = backend, backend.tensor
        self.shapes = tuple((name, array.shape) for name, array in arrays.items())
        self.tensors = {name: tensor(a, shared_memory=True) for name, a in arrays.items()}

    def run(self) -> None:
        """See `Program.run`; raises `ModelError` for a graph that cannot be loaded."""
        with self.backend.request(self.shapes) as request:
            try:
                for name, tensor in self.tensors.items():
                    request.set_tensor(name, tensor)
                request.infer(share_outputs=True)
            except Exception as error:
                raise self.backend.failure("window", error) from error


def check(devices: tuple[str, ...], precision: Precision) -> None:
    """Raise `UsageError`, with the remedy, unless OpenVINO is installed and has the precision."""
    runtime()
    plugin = core()
    if precision == "float16":
        raise UsageError(
            f"{OpenVinoBackend.name} computes in float32 or bfloat16, not float16: leave "
            "--precision out"
        )
    if precision == "bfloat16":
        require("openvino in bfloat16", ("onnx",), "pmtool[openvino]")
        if "BF16" not in plugin.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UsageError("this CPU has no instructions for bfloat16: leave --precision out")


def load(bundle: Bundle, device: str, precision: Precision, threads: int) -> OpenVinoBackend:
    """Load the bundle's graphs on the CPU."""
    return OpenVinoBackend(bundle, precision, threads, cpu_loops(bundle))


@cache
def core() -> Any:
    """OpenVINO's core, made once; raises `UsageError` if OpenVINO is missing or does not work.

    On a CPU with AMX, its plugin gives the thread that loads it a stack for signals, which two
    signals at once overflow and which the plugin frees as if the thread had ended. So it has.
    """

    def load() -> Any:
        made = openvino().Core()
        made.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
        return made

    try:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(load).result()
    except RuntimeError as error:
        if is_memory_shortage(error):
            raise
        raise UsageError("OpenVINO does not work here: use another --backend") from error


def openvino() -> ModuleType:
    """Import OpenVINO; raises `UsageError` if it is not installed."""
    converter = "openvino.tools.ovc"  # not needed; it reports each import and changes logging
    is_blocked = sys.modules.setdefault(converter, None) is None  # type: ignore[arg-type]
    try:
        return import_module("openvino")
    except ImportError as error:
        if is_memory_shortage(error):
            raise
        raise UsageError("OpenVINO is not installed: pip install 'pmtool[openvino]'") from error
    finally:
        if is_blocked:
            sys.modules.pop(converter, None)
