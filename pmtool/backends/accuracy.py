"""Check that engines compute the same as ONNX Runtime before they are used.

TensorRT has been seen to compile a fusion that yields NaN.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pmtool.backends.differences import differences
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.choices import Precision
from pmtool.errors import UsageError
from pmtool.export.precision import serialised
from pmtool.export.profiles import WIDTHS
from pmtool.interface.graph_names import GRAPHS, is_pixel_graph
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Backend
from pmtool.models.bundle import Bundle
from pmtool.system.tables import aligned

if TYPE_CHECKING:
    from pmtool.backends.tensorrt import TensorRTBackend

TOLERANCES: Mapping[Precision, float] = {"float32": 1e-3, "float16": 7e-2, "bfloat16": 0.6}
"""Largest accepted difference from ONNX Runtime, by precision. In half precision it is about six
times the difference that rounding alone makes in the default model."""
WIDE_LANES = 2
"""Number of lanes in the check of the wider profiles: as many as fit into `LEAST_WINDOWS`, the
smallest number of windows for which engines are built."""
ROUNDING, ENGINE = "rounding", "tensorrt"
_log = logging.getLogger("pmtool")


class RoundingBackend(OnnxRuntimeBackend):
    """Graphs in half precision, emulated on the CPU; see ``emulated`` of `in_precision`."""

    def __init__(self, bundle: Bundle, precision: Precision, threads: int = 1) -> None:
        super().__init__(bundle, threads)
        self.precision = precision

    def _model(self, graph: str) -> bytes:
        return serialised(self.bundle.graph(graph), self.precision, emulated=True)


def rounding_errors(bundle: Bundle, precision: Precision, threads: int = 1) -> dict[str, float]:
    """Largest difference, by graph, that rounding to a precision makes in any engine."""
    exact, rounded = (
        OnnxRuntimeBackend(bundle, threads),
        RoundingBackend(bundle, precision, threads),
    )
    return differences(GRAPHS, Layout(bundle.hyperparameters), exact, rounded)


def engine_errors(exact: OnnxRuntimeBackend, backend: Backend) -> dict[str, float]:
    """Largest difference over the engines' profiles, by graph.

    Pixel graphs are checked at one width only: their columns are the same for windows of any width.
    """
    layout = Layout(exact.bundle.hyperparameters)
    errors = differences(GRAPHS, layout, exact, backend)
    graphs = [graph for graph in GRAPHS if not is_pixel_graph(graph)]
    for width in WIDTHS[1:]:
        wide = differences(graphs, layout, exact, backend, width, WIDE_LANES)
        errors |= {graph: float(np.maximum(wide[graph], errors[graph])) for graph in graphs}
    return errors


def check_engines(backend: TensorRTBackend, threads: int = 1) -> None:
    """Compare all graphs with ONNX Runtime in float32, once for the engines in the cache.

    If an engine is missing or altered, it is built and all are compared again. All are also
    compared again if the kernel has changed.

    Raises
    ------
    UsageError
        If a graph differs by more than `TOLERANCES`.
    """
    engines, bundle = backend.engines, backend.engines.bundle
    kernel = backend.loops.version if backend.loops else ""
    built = [graph for graph in GRAPHS if not kernel or not is_pixel_graph(graph)]
    errors = engines.known_errors(built, kernel)
    if not errors:
        _log.info("comparing the engines with ONNX Runtime")
        engine_differences = engine_errors(OnnxRuntimeBackend(bundle, threads), backend)
        rounding = rounding_errors(bundle, backend.precision, threads)
        errors = {
            name: {ROUNDING: rounding[name], ENGINE: engine_differences[name]} for name in GRAPHS
        }
        engines.note_errors(errors, kernel)
    for name, error in errors.items():
        if not error[ENGINE] <= TOLERANCES[backend.precision]:  # true for NaN too
            computed = f"the engine {name}" if name in built else f"pmtool's kernel for {name}"
            raise UsageError(
                f"{computed} differs from ONNX Runtime by {error[ENGINE]:.2g}: use another "
                "--backend or --precision"
            )


def error_table(errors: Mapping[str, Any]) -> str:
    """Table of the errors that `check_engines` has found, one graph per line."""
    rows = [(name, f"{e[ROUNDING]:.1e}", f"{e[ENGINE]:.1e}") for name, e in errors.items()]
    return "\n".join(aligned([("graph", "rounding alone", "TensorRT"), *rows]))
