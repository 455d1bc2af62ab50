"""The floor's counts against PyTorch's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pmtool.backends.torch import TorchBackend
from pmtool.benchmark.floor import PARTS, Load, bytes_moved, floor, loads, multiplications
from pmtool.graphs.suite import graph_suite
from pmtool.interface.buffers import Buffers
from pmtool.interface.host import HostMemory
from pmtool.interface.layout import Layout, depth_of_row
from pmtool.models.hyperparameters import COMPACT, Hyperparameters
from pmtool.network import PixelMiner
from pmtool.sampling.lanes import Lanes
from pmtool.sampling.windows import pixels_of_windows


@pytest.mark.parametrize("hyperparameters", [COMPACT, replace(COMPACT, encoder=0)])
def test_multiplications_of_the_window_graph(hyperparameters: Hyperparameters) -> None:
    """As PyTorch counts them; padding makes the difference."""
    size = 64
    network = PixelMiner(hyperparameters).eval()
    graph = graph_suite(network)["window"]
    slices = torch.zeros(2, 1, 1, size, size)
    padded = [F.pad(x, (hyperparameters.margin,) * 4) for x in slices]
    found = counted(graph, *padded)
    if hyperparameters.encoder:  # the margin is left out of the floor
        found -= counted(network.encoder, *padded) - counted(network.encoder, *slices)
    assert multiplications(hyperparameters).window * size**2 == pytest.approx(found, rel=0.015)


def counted(module: nn.Module, *slices: Tensor) -> float:
    """Multiplications of a module that takes two slices and their thickness."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(*slices, torch.ones(1, 1, 1, 1))
    return float(counter.get_total_flops()) / 2


@pytest.mark.parametrize("hyperparameters", [COMPACT, Hyperparameters(channels=3, blocks=2)])
def test_multiplications_of_rows_and_pixels(hyperparameters: Hyperparameters) -> None:
    """As PyTorch counts them, over four rows, which touch all levels; edges add a little."""
    size, network = 64, PixelMiner(hyperparameters).eval()
    backend = TorchBackend(network)
    buffers = Buffers(backend.memory, Layout(hyperparameters), size, size, 1)
    lanes = Lanes(backend, buffers, 0, "mean")
    work = multiplications(hyperparameters)
    for programs, expected in (
        (lanes.rows, work.row),
        (lanes.whole_rows, work.known),
        (lanes.pixels, work.pixel),
    ):
        with FlopCounterMode(display=False) as counter:
            for row in range(4):
                programs[depth_of_row(row)].run()
        found = counter.get_total_flops() / 2 / (4 * size)
        assert expected == pytest.approx(found, rel=0.03)


def test_bytes_are_those_of_the_buffers() -> None:
    """Over four rows; carries, pixels and preceding columns, which it omits, add a little."""
    size, layout = 64, Layout(COMPACT)
    buffers, moved = Buffers(HostMemory(), layout, size, size, 1), bytes_moved(layout)
    depths = [depth_of_row(row) for row in range(4)]
    planes = sum(plane.nbytes for plane in buffers.planes.values())
    assert moved.window == planes / size**2
    for graphs, expected in (
        ([buffers.row(depth) for depth in depths], moved.row),
        ([buffers.known(depth, size) for depth in depths], moved.known),
        ([buffers.pixel(depth, 0) for depth in depths], moved.pixel),
    ):
        found = sum(array.nbytes for arrays in graphs for array in arrays.values()) / (4 * size)
        assert 0.92 * found < expected <= found


def test_loads_are_of_all_windows() -> None:
    """Two by three windows of 64 pixels, whose overlaps are computed twice."""
    shape, window = (96, 128), (64, 64)
    assert pixels_of_windows(shape, window) == 24_576
    work, found = multiplications(COMPACT), loads(COMPACT, shape, window)
    assert list(found) == list(PARTS)
    assert found["window"].operations == 2 * work.window * 24_576
    assert found["pixel"].operations == 2 * work.pixel * 12_288
    assert found["row"].operations == 2 * (work.row * 24_576 + work.known * 12_288)


def test_floor_is_the_slower_of_computing_and_moving() -> None:
    assert floor(Load(100, 10), 10, 1) == 10
    assert floor(Load(100, 30), 10, 1) == 30
