"""Do the exported graphs compute what the PyTorch graphs compute?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmtool.backends import Backend
from pmtool.backends.torch import TorchBackend
from pmtool.buffers import Buffers
from pmtool.graphs.horizontal import KnownGraph
from pmtool.graphs.row import RowGraph
from pmtool.graphs.suite import Graph
from pmtool.graphs.window import WindowGraph
from pmtool.layout import Layout
from pmtool.network import PixelMiner

SIZE, LANES, KNOWN = 64, 5, 32

Arrays = dict[str, NDArray[np.float32]]


def graph_errors(network: PixelMiner, backend: Backend) -> dict[str, float]:
    """Largest absolute difference of every graph's outputs from PyTorch, on random inputs."""
    oracle = TorchBackend(network)
    return {name: _error(name, graph, oracle, backend) for name, graph in oracle.graphs.items()}


def _error(name: str, graph: Graph, oracle: Backend, backend: Backend) -> float:
    results: list[Arrays] = []
    for engine in (oracle, backend):
        arrays = _inputs(graph)
        engine.bind(name, arrays).run()
        results.append({key: array for key, array in arrays.items() if key in graph.outputs})
    expected, found = results
    return max(float(np.abs(expected[key] - found[key]).max()) for key in expected)


def _inputs(graph: Graph) -> Arrays:
    """Random inputs, the same for every call, and room for the outputs."""
    rng = np.random.default_rng(0)
    buffers = Buffers(_layout(graph), SIZE, SIZE, LANES)
    for array in (*buffers.rows.values(), buffers.pixels, *buffers.planes.values()):
        array[:] = rng.normal(0, 0.3, array.shape)
    buffers.uniforms[:] = rng.uniform(0.01, 0.99, buffers.uniforms.shape)
    np.abs(buffers.planes["mixture"], out=buffers.planes["mixture"])
    if isinstance(graph, WindowGraph):
        return _window(buffers, rng)
    if isinstance(graph, RowGraph):
        planes = {name: plane[0] for name, plane in buffers.planes.items() if name != "mixture"}
        planes = {name: planes[name] for name in graph.inputs if name in planes}
        return {**buffers.row(graph.depth), **planes, "pixels": buffers.pixels[:3]}
    if isinstance(graph, KnownGraph):
        return {**buffers.known(graph.weights.depth, KNOWN), "pixels": buffers.pixels[3, :KNOWN]}
    columns = {
        "mixture": buffers.planes["mixture"][0, KNOWN:],
        "uniforms": buffers.uniforms[0, KNOWN:],
        "pixels": buffers.pixels[3, 1 + KNOWN :, :, None],
    }
    groups = {name: buffers.grouped(array, KNOWN) for name, array in columns.items()}
    previous = buffers.pixels[3, KNOWN, :, None]
    return {**buffers.pixel(graph.weights.depth, KNOWN), **groups, "previous": previous}


def _window(buffers: Buffers, rng: np.random.Generator) -> Arrays:
    slices = {key: rng.uniform(-1, 1, (1, 1, SIZE, SIZE)).astype(np.float32) for key in ("above", "below")}
    return {**slices, **{name: plane[:, :, 0].copy() for name, plane in buffers.planes.items()}}


def _layout(graph: Graph) -> Layout:
    if isinstance(graph, (WindowGraph, RowGraph)):
        return graph.layout
    return graph.weights.layout
