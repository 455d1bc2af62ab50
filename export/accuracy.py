"""Whether engines compute what ONNX Runtime does: it is looked at before they are used.

TensorRT has been seen to compile NaN into a fusion.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import onnx

from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.backends.protocol import Precision
from pmtool.bundle import Bundle
from pmtool.errors import UsageError
from pmtool.export.check import differences
from pmtool.export.precision import in_precision
from pmtool.layout import LEVELS, Layout

if TYPE_CHECKING:
    from pmtool.backends.tensorrt import TensorRTBackend

GRAPHS = (
    "window",
    *(f"{kind}{d}" for kind in ("row", "known", "quantile", "mean") for d in range(1, LEVELS + 1)),
)
TOLERANCES: Mapping[Precision, float] = {"float32": 1e-3, "float16": 3e-2, "bfloat16": 0.25}
"""In half types about four times what rounding alone does to the default model."""
ROUNDING, ENGINE = "rounding", "tensorrt"
_logger = logging.getLogger(__name__)


class RoundingBackend(OnnxRuntimeBackend):
    """Graphs in half precision on the processor, see ``emulated`` of `in_precision`."""

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
        _logger.info("comparing the engines with ONNX Runtime")
        exact = OnnxRuntimeBackend(bundle, threads)
        found = differences(GRAPHS, Layout(bundle.hyperparameters), exact, backend)
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
    lines = [f"{'graph':12} {'rounding alone':>14} {'TensorRT':>14}"]
    lines += [f"{name:12} {e[ROUNDING]:14.1e} {e[ENGINE]:14.1e}" for name, e in errors.items()]
    return "\n".join(lines)
