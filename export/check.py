"""A check that exported graphs compute what the PyTorch graphs compute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pmtool.backends import Backend
from pmtool.backends.protocol import Array, Memory
from pmtool.backends.torch import TorchBackend
from pmtool.buffers import Buffers
from pmtool.graphs.horizontal import KnownGraph
from pmtool.graphs.pixel import PixelGraph
from pmtool.graphs.row import RowGraph
from pmtool.graphs.suite import Graph
from pmtool.graphs.window import WindowGraph
from pmtool.layout import Layout
from pmtool.network import PixelMiner

SIZE, LANES, WINDOWS, KNOWN = 64, 9, 2, 32

Arrays = dict[str, NDArray[np.float32]]


def graph_errors(network: PixelMiner, backend: Backend) -> dict[str, float]:
    """Largest difference of every graph's outputs from PyTorch, on random inputs."""
    oracle = TorchBackend(network)
    return {name: _error(name, graph, oracle, backend) for name, graph in oracle.graphs.items()}


def _error(name: str, graph: Graph, oracle: Backend, backend: Backend) -> float:
    results: list[Arrays] = []
    for engine in (oracle, backend):
        arrays = graph_inputs(graph, engine.memory)
        engine.bind(name, arrays).run()
        results.append(
            {key: engine.memory.download(a) for key, a in arrays.items() if key in graph.outputs}
        )
    expected, found = results
    if isinstance(graph, PixelGraph):
        lanes = _equal_lanes(expected["pixels"], found["pixels"])
        expected, found = (
            {key: array.reshape(-1, LANES, array.shape[-1])[:, lanes] for key, array in x.items()}
            for x in (expected, found)
        )
    return float(np.max([_difference(expected[key], found[key]) for key in expected]))


def _equal_lanes(expected: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Lanes with the same pixels: where rounding moved one by a level, all that follows differs."""
    equal = np.asarray(np.isclose(expected, found, atol=1e-6).all(axis=(0, 1, 3)))
    return equal if equal.sum() > LANES // 2 else np.ones(LANES, np.bool_)


def _difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Largest difference, relative where the values are over 1 (inverse scales reach 1,000)."""
    return float(np.max(np.abs(expected - found) / np.maximum(1, np.abs(expected))))


def graph_inputs(graph: Graph, memory: Memory) -> dict[str, Array]:
    """Random inputs, the same for every call, and room for the outputs."""
    rng = np.random.default_rng(0)
    buffers = Buffers(memory, _layout(graph), SIZE, SIZE, LANES, WINDOWS)
    for name, array in (
        *buffers.rows.items(),
        ("residuals", buffers.residuals),
        ("history", buffers.history),
    ):
        values = rng.normal(0, 0.3, array.shape).astype(np.float32)
        memory.upload(array, np.abs(values) if name == "mixture" else values)
    memory.upload(buffers.row_tails, rng.uniform(0.01, 0.5, (SIZE, LANES)).astype(np.float32))
    for slices in (buffers.above, buffers.below):
        memory.upload(slices, rng.uniform(-1, 1, slices.shape).astype(np.float32))
    if isinstance(graph, WindowGraph):
        return buffers.window(0)
    if isinstance(graph, RowGraph):
        return buffers.row(graph.depth)
    if isinstance(graph, KnownGraph):
        return buffers.known(graph.weights.depth, KNOWN)
    return buffers.pixel(graph.weights.depth, KNOWN)


def _layout(graph: Graph) -> Layout:
    if isinstance(graph, (WindowGraph, RowGraph)):
        return graph.layout
    return graph.weights.layout
