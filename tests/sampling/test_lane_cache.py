"""Batches of engines that keep their programs: few counts of lanes, and few spare ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pmtool.interface.buffers import Buffers
from pmtool.interface.layout import Layout
from pmtool.models.hyperparameters import COMPACT
from pmtool.sampling.lane_cache import LaneCache, kept_lanes
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import PairGroup
from pmtool.sampling.plan import GPU_SHARE, MOST_GPU_LANES, make_gpu_plan

COUNTS = range(1, MOST_GPU_LANES + 1)


def test_spare_lanes_are_few() -> None:
    for count in COUNTS:
        kept = kept_lanes(count, MOST_GPU_LANES)
        assert count <= kept < 1.25 * count
        assert kept_lanes(kept, MOST_GPU_LANES) == kept


def test_counts_are_few() -> None:
    """Four for every power of two."""
    kept = {kept_lanes(count, MOST_GPU_LANES) for count in COUNTS}
    assert {8, 10, 12, 14, 16} == {lanes for lanes in kept if 8 <= lanes <= 16}
    assert len(kept) <= 4 * MOST_GPU_LANES.bit_length()


@pytest.mark.parametrize("most", [1, 3, 100, 1001])
def test_none_is_larger_than_the_largest(most: int) -> None:
    for count in range(1, most + 1):
        assert count <= kept_lanes(count, most) <= most


@pytest.mark.parametrize("window", [64, 96, 512])
def test_a_batch_fits_into_its_share_of_the_memory(window: int) -> None:
    """With the slices of its pairs; and one lane more does not, unless it is the most."""
    layout, asked = Layout(COMPACT), SamplerOptions(window=window)
    lane = Buffers.size(layout, window, window, 1) + PairGroup.size(COMPACT, 512, 512)
    for free in (2**gigabytes * 2**30 for gigabytes in range(8)):
        plan = make_gpu_plan(layout, asked, (512, 512), MOST_GPU_LANES, gpus=1, free=free)
        assert plan.memory == plan.batch * lane
        assert plan.batch == 1 or plan.memory <= GPU_SHARE * free
        assert plan.batch == MOST_GPU_LANES or plan.memory + lane > GPU_SHARE * free


@pytest.mark.parametrize(("keeps_programs", "expected"), [(True, [6, 3, 1]), (False, [2, 2, 1])])
def test_memory_runs_out(keeps_programs: bool, expected: list[int]) -> None:
    """Programs that are kept take it for the largest batch with the first one."""
    backend: Any = SimpleNamespace(keeps_programs=keeps_programs)
    cache = LaneCache(backend, COMPACT, (64, 64), most=12)
    found = []
    for count in (4, 4, 3):
        assert cache.shrink(count)
        found.append(cache.most)
    assert found == expected
    assert not cache.shrink(1)
    assert cache.most == 1
