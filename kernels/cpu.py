"""pmtool's own loops on the CPU, compiled when the package was installed."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec

from pmtool.interface.graph_names import is_pixel_graph, kind_and_depth
from pmtool.interface.protocol import Arrays, Program
from pmtool.kernels.cpu_pixels import CpuPixels
from pmtool.kernels.cpu_rows import CpuRows
from pmtool.kernels.packing import Weights
from pmtool.models.hyperparameters import Hyperparameters

_LIBRARY = "pmtool.kernels._loops"


@cache
def library() -> ctypes.CDLL | None:
    """Load the compiled loops; None if they were not compiled or cannot be loaded here."""
    spec = find_spec(_LIBRARY)
    if spec is None or spec.origin is None:
        return None
    try:
        return ctypes.CDLL(spec.origin)
    except OSError:
        return None


class CpuLoops:
    """The compiled loops with a model's weights, for all programs.

    Parameters
    ----------
    library
        The compiled loops, see `library`.
    hyperparameters
        Hyper-parameters of the network.
    pixels, rows
        See `pmtool.kernels.weights.pixel_weights` and `row_weights`.
    """

    def __init__(
        self, library: ctypes.CDLL, hyperparameters: Hyperparameters, pixels: Weights, rows: Weights
    ) -> None:
        self.pixels = CpuPixels(library, hyperparameters, pixels)
        self.rows = CpuRows(library, hyperparameters, rows)

    def covers(self, graph: str) -> bool:
        """See `Loops`."""
        return is_pixel_graph(graph) or kind_and_depth(graph)[0] == "row"

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`."""
        return (self.pixels if is_pixel_graph(graph) else self.rows).bind(graph, arrays)
