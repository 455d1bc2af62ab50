"""Checking on random arrays that graphs compute the same in two engines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.interface.buffers import Buffers
from pmtool.interface.graph_names import kind_and_depth
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Array, Backend

if TYPE_CHECKING:
    from pmtool.network import PixelMiner

SIZE, LANES, WINDOWS, GENERATED = 64, 9, 2, 32
"""Height and width of the windows, their number, windows per call of the window graph, and the
number of columns on the right that are generated."""


def graph_errors(network: PixelMiner, backend: Backend) -> dict[str, float]:
    """`differences` of a backend from PyTorch, for all graphs of a network."""
    from pmtool.backends.torch import TorchBackend

    oracle = TorchBackend(network)
    return differences(oracle.graphs, Layout(network.hyperparameters), oracle, backend)


def differences(
    graphs: Iterable[str],
    layout: Layout,
    expected: Backend,
    found: Backend,
    width: int = SIZE,
    lanes: int = LANES,
) -> dict[str, float]:
    """Largest difference between the outputs of two backends, by graph, for windows of one width.

    Differences are absolute, except that they are relative where values exceed 1, because inverse
    scales reach 1,000.
    """
    sizes = width, lanes
    return {graph: _difference(graph, layout, (expected, found), sizes) for graph in graphs}


def _difference(
    graph: str, layout: Layout, backends: tuple[Backend, Backend], sizes: tuple[int, int]
) -> float:
    expected, found = (_run(graph, layout, backend, sizes) for backend in backends)
    if "pixels" in expected:
        same = _equal_lanes(expected["pixels"], found["pixels"])
        expected, found = (
            {
                name: array.reshape(-1, len(same), array.shape[-1])[:, same]
                for name, array in x.items()
            }
            for x in (expected, found)
        )
    relative = [
        np.abs(expected[name] - found[name]) / np.maximum(1, np.abs(expected[name]))
        for name in expected
    ]
    return float(np.max([values.max() for values in relative]))


def _run(
    graph: str, layout: Layout, backend: Backend, sizes: tuple[int, int]
) -> dict[str, Float32s]:
    """Run a graph on random arrays, the same for every backend, and return all its arrays.

    It runs twice, to check that a program reads its arrays when it runs, not when it was bound or
    recorded.
    """
    buffers = Buffers(backend.memory, layout, SIZE, *sizes, WINDOWS)
    program = backend.bind(graph, random_arrays(graph, buffers, seed=1))
    program.run()
    arrays = random_arrays(graph, buffers)
    program.run()
    return {name: backend.memory.download(array) for name, array in arrays.items()}


def random_arrays(graph: str, buffers: Buffers, seed: int = 0) -> dict[str, Array]:
    """Arrays of a graph: random inputs, determined by the seed, and space for the outputs."""
    _fill(buffers, seed)
    kind, depth = kind_and_depth(graph)
    if kind == "window":
        return buffers.window(0)
    if kind == "row":
        return buffers.row(depth)
    columns = len(buffers.row_tails) - GENERATED
    return buffers.known(depth, columns) if kind == "known" else buffers.pixel(depth, columns)


def _fill(buffers: Buffers, seed: int) -> None:
    rng, memory = np.random.default_rng(seed), buffers.memory
    rows = buffers.rows | {"residuals": buffers.residuals, "history": buffers.history}
    for name, array in rows.items():
        values = rng.normal(0, 0.3, array.shape).astype(np.float32)
        memory.upload(array, np.abs(values) if name == "mixture" else values)
    tails = rng.uniform(0.01, 0.5, buffers.row_tails.shape)
    memory.upload(buffers.row_tails, tails.astype(np.float32))
    between = rng.uniform(-0.8, 0.8, buffers.above.shape)
    for slices in (buffers.above, buffers.below):
        memory.upload(slices, (between + rng.normal(0, 0.03, between.shape)).astype(np.float32))
    relative = rng.uniform(0.1, 1.2, buffers.relative_thickness.shape)
    memory.upload(buffers.relative_thickness, relative.astype(np.float32))


def _equal_lanes(expected: Float32s, found: Float32s) -> NDArray[np.bool_]:
    """Mask ``(M,)`` of the lanes with equal pixels.

    If rounding moves one pixel by a grey level, everything after it differs. All lanes are kept if
    at most half of them are equal.
    """
    equal = np.asarray(np.isclose(expected, found, atol=1e-6).all(axis=(0, 1, 3)))
    return equal if 2 * equal.sum() > equal.size else np.ones_like(equal)
