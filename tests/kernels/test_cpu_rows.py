"""The loop for the vertical stack against PyTorch's row graph, with all instructions there are."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pmtool.arrays import Float32s
from pmtool.graphs.row import RowGraph, row_weights
from pmtool.interface.buffers import Buffers
from pmtool.interface.host import HostMemory
from pmtool.interface.layout import Layout
from pmtool.kernels.cpu_rows import CpuRows
from pmtool.models.hyperparameters import LEVELS, Hyperparameters
from pmtool.network import PixelMiner

pytestmark = pytest.mark.usefixtures("one_thread")

SOURCE = Path(__file__).parents[2] / "kernels" / "vertical_row.cpp"
SUPPORTED = "__builtin_cpu_supports"
INSTRUCTIONS = {
    "x86-64-v4": [],
    "x86-64-v3": [f"-D{SUPPORTED}(level)=({SUPPORTED}(level) && (level)[8] == '3')"],
    "baseline": [f"-D{SUPPORTED}(level)=0"],
}
"""Options of the compiler, by the instructions that are chosen then, if there are these."""
SMALL = Hyperparameters(channels=16)
NETWORKS = [
    replace(SMALL, encoder=4),
    SMALL,
    replace(SMALL, channels=40, blocks=2, encoder=4),
    replace(SMALL, channels=5, blocks=2),
]
Arrays = dict[str, Float32s]


@pytest.fixture(scope="module", params=INSTRUCTIONS)
def library(request: pytest.FixtureRequest, compiled: Callable[..., ctypes.CDLL]) -> ctypes.CDLL:
    options = INSTRUCTIONS[request.param]
    library = compiled(SOURCE, "-ffp-contract=fast", "-Wno-psabi", *options)
    library.vertical_row_instructions.restype = ctypes.c_char_p
    chosen = library.vertical_row_instructions().decode()
    if chosen != request.param:
        pytest.skip(f"this CPU or compiler has only {chosen}")
    return library


def random_network(hyperparameters: Hyperparameters) -> PixelMiner:
    torch.manual_seed(0)
    return PixelMiner(hyperparameters).eval().requires_grad_(False)


def random_row(hyperparameters: Hyperparameters, depth: int, columns: int, lanes: int) -> Arrays:
    """Arrays of a row graph, as if there had been rows before."""
    buffers = Buffers(HostMemory(), Layout(hyperparameters), columns, columns, lanes)
    rng = np.random.default_rng(1)
    for array in (buffers.history, *buffers.rows.values()):
        array[...] = rng.normal(0, 0.5, array.shape)
    return buffers.row(depth)


@pytest.mark.parametrize("hyperparameters", NETWORKS, ids=str)
@pytest.mark.parametrize("depth", range(1, LEVELS + 1))
@pytest.mark.parametrize(("columns", "lanes"), [(32, 5), (16, 1)])
def test_row(
    library: ctypes.CDLL, hyperparameters: Hyperparameters, depth: int, columns: int, lanes: int
) -> None:
    network, name = random_network(hyperparameters), f"row{depth}"
    arrays = random_row(hyperparameters, depth, columns, lanes)
    graph = RowGraph(network, depth)
    expected = graph(*(torch.from_numpy(arrays[name].copy()) for name in graph.inputs))
    weights = {name: tensor.numpy() for name, tensor in row_weights(network).items()}
    CpuRows(library, hyperparameters, weights).bind(name, arrays).run()
    for output, tensor in zip(graph.outputs, expected, strict=True):
        np.testing.assert_allclose(
            arrays[output], tensor.numpy(), rtol=2e-5, atol=2e-5, err_msg=output
        )


def test_lanes_do_not_depend_on_the_batch(library: ctypes.CDLL) -> None:
    network = random_network(NETWORKS[0])
    weights = {name: tensor.numpy() for name, tensor in row_weights(network).items()}
    loop = CpuRows(library, NETWORKS[0], weights)

    def part(name: str, array: Float32s, lanes: slice) -> Float32s:
        return np.ascontiguousarray(array[:, :, lanes] if name == "residuals" else array[:, lanes])

    def run(lanes: slice) -> Arrays:
        arrays = random_row(NETWORKS[0], LEVELS, 32, 19)
        arrays = {name: part(name, array, lanes) for name, array in arrays.items()}
        for name in arrays:
            if name.endswith("_cache_next"):  # caches are advanced in place
                arrays[name] = arrays[name.removesuffix("_next")]
        loop.bind(f"row{LEVELS}", arrays).run()
        return arrays

    whole = run(slice(None))
    for lanes in (slice(5, 6), slice(3, 16), slice(8, 19)):
        for name, array in run(lanes).items():
            np.testing.assert_array_equal(array, part(name, whole[name], lanes), err_msg=name)
