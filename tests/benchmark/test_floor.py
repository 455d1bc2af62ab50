"""The floor's counts against convolutions that are counted one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pmtool.benchmark.floor import PARTS, Load, floor, loads, multiplications, window_pixels
from pmtool.graphs.suite import graph_suite
from pmtool.models.hyperparameters import COMPACT, Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.layers import Block


def test_multiplications_of_the_window_graph() -> None:
    """As PyTorch counts them; padding makes the difference."""
    size, margin = 64, COMPACT.margin
    graph = graph_suite(PixelMiner(COMPACT))["window"]
    slices = torch.zeros(2, 1, 1, size, size)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        graph(*(F.pad(x, (margin,) * 4) for x in slices))
    encoder = multiplications(COMPACT).window - multiplications(replace(COMPACT, encoder=0)).window
    around = ((size + 2 * margin) ** 2 - size**2) * encoder  # the margin, left out of the floor
    found = counter.get_total_flops() / 2 - around
    assert multiplications(COMPACT).window * size**2 == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize("hyperparameters", [COMPACT, Hyperparameters(channels=3, blocks=2)])
def test_multiplications_of_the_pixel_graph(hyperparameters: Hyperparameters) -> None:
    """Three taps of every composed kernel, and the 1x1 convolutions of the target's own pixel."""
    c, horizontal = hyperparameters.channels, PixelMiner(hyperparameters).horizontal
    expected = c + 3.0 * c * hyperparameters.mixtures
    for level in range(3):
        share, down = 0.25**level, horizontal.down[2 - level]
        layers = [*horizontal.up[level], *down]
        blocks: list[Block] = [block for x in layers for block in (x.first, x.second)]
        if level:
            blocks.append(horizontal.strided[level - 1])
            expected += share * 4 * c * c
        expected += share * sum(3 * b.outer.in_channels * b.outer.out_channels for b in blocks)
        expected += share * len(down) * 2 * c * c
    assert multiplications(hyperparameters).pixel == pytest.approx(expected)


def test_loads_are_of_all_windows() -> None:
    shape, window = (96, 128), (64, 64)
    assert window_pixels(shape, window) == (2 * 3 * 64**2, 96 * 128)
    work, found = multiplications(COMPACT), loads(COMPACT, shape, window)
    assert list(found) == list(PARTS)
    assert found["window"].operations == 2 * work.window * 6 * 64**2
    assert found["pixel"].operations == 2 * work.pixel * 96 * 128
    known = 6 * 64**2 - 96 * 128
    assert found["row"].operations == 2 * (work.row * 6 * 64**2 + work.known * known)


def test_floor_is_the_slower_of_computing_and_moving() -> None:
    assert floor(Load(100, 10), 10, 1) == 10
    assert floor(Load(100, 30), 10, 1) == 30
