"""A check that exported graphs compute what the PyTorch graphs compute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pmtool.backends import Backend
from pmtool.backends.torch import TorchBackend
from pmtool.buffers import Buffers
from pmtool.graphs.horizontal import KnownGraph
from pmtool.graphs.pixel import PixelGraph
from pmtool.graphs.row import RowGraph
from pmtool.graphs.suite import Graph
from pmtool.graphs.window import WindowGraph
from pmtool.layout import Layout
from pmtool.network import PixelMiner

SIZE, LANES, KNOWN = 64, 9, 32

Arrays = dict[str, NDArray[np.float32]]


def graph_errors(network: PixelMiner, backend: Backend) -> dict[str, float]:
    """Largest difference of every graph's outputs from PyTorch, on random inputs."""
    oracle = TorchBackend(network)
    return {name: _error(name, graph, oracle, backend) for name, graph in oracle.graphs.items()}


def _error(name: str, graph: Graph, oracle: Backend, backend: Backend) -> float:
    results: list[Arrays] = []
    for engine in (oracle, backend):
        arrays = _inputs(graph)
        engine.bind(name, arrays).run()
        results.append({key: array for key, array in arrays.items() if key in graph.outputs})
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


def _inputs(graph: Graph) -> Arrays:
    """Random inputs, the same for every call, and room for the outputs."""
    rng = np.random.default_rng(0)
    buffers = Buffers(_layout(graph), SIZE, SIZE, LANES)
    for array in (*buffers.rows.values(), buffers.residuals):
        array[:] = rng.normal(0, 0.3, array.shape)
    buffers.tails[:] = rng.uniform(0.01, 0.5, buffers.tails.shape)
    np.abs(buffers.rows["mixture"], out=buffers.rows["mixture"])
    if isinstance(graph, WindowGraph):
        size = SIZE + 2 * graph.layout.hyperparameters.margin
        slices = rng.uniform(-1, 1, (2, 1, 1, size, size)).astype(np.float32)
        planes = {name: plane[0] for name, plane in buffers.planes.items()}
        return {"above": slices[0], "below": slices[1], **planes}
    if isinstance(graph, RowGraph):
        return {**buffers.row(graph.depth), "residuals": buffers.residuals[:3]}
    if isinstance(graph, KnownGraph):
        return {
            **buffers.known(graph.weights.depth, KNOWN),
            "residuals": buffers.residuals[3, :KNOWN],
        }
    columns = {
        "tails": buffers.tails[0, KNOWN:],
        "pixels": buffers.pixels[0, KNOWN:, :, None],
        "residuals": buffers.residuals[3, 1 + KNOWN :, :, None],
    }
    groups = {name: buffers.grouped(array, KNOWN) for name, array in columns.items()}
    previous = buffers.residuals[3, KNOWN, :, None]
    return {**buffers.pixel(graph.weights.depth, KNOWN), **groups, "previous": previous}


def _layout(graph: Graph) -> Layout:
    if isinstance(graph, (WindowGraph, RowGraph)):
        return graph.layout
    return graph.weights.layout
