"""The graphs in PyTorch: the oracle of the other engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from pmtool.backends.protocol import Arrays
from pmtool.graphs.pixel import PixelGraph
from pmtool.graphs.suite import Graph, graph_suite
from pmtool.network import PixelMiner


class TorchBackend:
    """PyTorch on the CPU, float32."""

    name = "torch"

    def __init__(self, network: PixelMiner) -> None:
        self.graphs = graph_suite(network)

    def bind(self, graph: str, arrays: Arrays) -> TorchProgram:
        """See `Backend.bind`."""
        return TorchProgram(self.graphs[graph], dict(arrays))


@dataclass
class TorchProgram:
    """A graph and the arrays it reads and writes."""

    graph: Graph
    arrays: dict[str, NDArray[Any]]

    @torch.inference_mode()
    def run(self, changed: Arrays | None = None) -> None:
        """See `Program.run`."""
        self.arrays.update(changed or {})
        if isinstance(self.graph, PixelGraph):
            self._scan(self.graph)
            return
        results = self.graph(*(self._tensor(name) for name in self.graph.inputs))
        for name, result in zip(self.graph.outputs, results, strict=True):
            if name in self.arrays:
                self._tensor(name).copy_(result)

    def _scan(self, graph: PixelGraph) -> None:
        states = [self._tensor(name) for name in graph.states]
        columns = [self._tensor(name) for name in graph.scanned]
        for group in range(len(columns[0])):
            outputs = graph(*states, *(column[group] for column in columns))
            states = list(outputs[: len(states)])
            for name, result in zip(graph.results, outputs[len(states) :], strict=True):
                if name in self.arrays:
                    self._tensor(name)[group].copy_(result)

    def _tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])
