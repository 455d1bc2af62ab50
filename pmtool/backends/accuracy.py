"""Whether engines compute what ONNX Runtime does: it is looked at before they are used.

TensorRT has been seen to compile NaN into a fusion.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from pmtool.backends.differences import differences
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.errors import UsageError
from pmtool.export.precision import in_precision
from pmtool.export.profiles import WIDTHS
from pmtool.interface.graph_names import GRAPHS, is_pixel_graph
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Backend, Precision
from pmtool.models.bundle import Bundle
from pmtool.system.tables import aligned

if TYPE_CHECKING:
    from pmtool.backends.tensorrt import TensorRTBackend

TOLERANCES: Mapping[Precision, float] = {"float32": 1e-3, "float16": 7e-2, "bfloat16": 0.4}
"""In half types about four times what rounding alone does to the default model."""
WIDE_LANES = 2
"""Lanes of the wider profiles in the check: as many as `LEAST_WINDOWS`, the fewest, allow."""
ROUNDING, ENGINE = "rounding", "tensorrt"
_log = logging.getLogger("pmtool")


class RoundingBackend(OnnxRuntimeBackend):
    """Graphs in half precision on the CPU, see ``emulated`` of `in_precision`."""

    def __init__(self, bundle: Bundle, precision: Precision, threads: int = 1) -> None:
        super().__init__(bundle, threads)
        self.precision = precision

    def _model(self, graph: str) -> bytes:
        model = onnx.load(self.bundle.graph(graph))
        return bytes(in_precision(model, self.precision, emulated=True).SerializeToString())


def rounding_errors(bundle: Bundle, precision: Precision, threads: int = 1) -> dict[str, float]:
    """Largest difference that a precision makes in every graph, whatever engine runs it."""
    exact, rounded = (
        OnnxRuntimeBackend(bundle, threads),
        RoundingBackend(bundle, precision, threads),
    )
    return differences(GRAPHS, Layout(bundle.hyperparameters), exact, rounded)


def engine_errors(exact: OnnxRuntimeBackend, backend: Backend) -> dict[str, float]:
    """Largest difference of every graph over the engines' profiles.

    Pixel graphs have columns of one width, whatever the window's.
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

    Raises
    ------
    UsageError
        If one differs by more than `TOLERANCES`.
    """
    engines, bundle = backend.engines, backend.engines.bundle
    errors = engines.manifest()["errors"]
    if not errors:
        _log.info("comparing the engines with ONNX Runtime")
        found = engine_errors(OnnxRuntimeBackend(bundle, threads), backend)
        rounding = rounding_errors(bundle, backend.precision, threads)
        errors = {name: {ROUNDING: rounding[name], ENGINE: found[name]} for name in GRAPHS}
        engines.note_errors(errors)
    for name, error in errors.items():
        if not error[ENGINE] <= TOLERANCES[backend.precision]:  # nor if it is NaN
            raise UsageError(
                f"the engine {name} differs from ONNX Runtime by {error[ENGINE]:.2g}: use another "
                "--backend or --precision"
            )


def error_table(errors: Mapping[str, Any]) -> str:
    """What `check_engines` has found, a graph a line."""
    rows = [(name, f"{e[ROUNDING]:.1e}", f"{e[ENGINE]:.1e}") for name, e in errors.items()]
    return "\n".join(aligned([("graph", "rounding alone", "TensorRT"), *rows]))
