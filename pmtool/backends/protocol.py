"""What the sampler asks of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Program(Protocol):
    """A graph bound to its buffers."""

    def run(self, changed: Arrays | None = None) -> None:
        """Run the graph on the buffers, after binding those that changed to others."""


class Backend(Protocol):
    """An engine with a loaded model.

    Graphs are called ``window``, ``row<depth>``, ``known<depth>``, and ``quantile<depth>`` or
    ``mean<depth>`` for the pixel graph by its way of choosing.
    """

    name: str

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """Bind a graph to C-contiguous float32 arrays, inputs and outputs by name.

        An input and an output may share an array. The pixel graph is bound to
        its columns, in groups of four: ``(groups, n, M, channels)``, see `PixelGraph`.
        """
