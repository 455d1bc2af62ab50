"""Plans of the cached sampler: windows, workers and lanes within the memory and the options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pmtool.errors import MemoryBudgetError, UsageError
from pmtool.interface.buffers import Buffers
from pmtool.interface.layout import Layout
from pmtool.models.bundle import Bundle
from pmtool.models.hyperparameters import COMPACT, Hyperparameters
from pmtool.network import PixelMiner
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import PairGroup, SlicePair
from pmtool.sampling.plan import (
    GPU_SHARE,
    GRAPHS_BYTES,
    WEIGHT_COPIES,
    Plan,
    make_gpu_plan,
    make_plan,
    operations,
)
from pmtool.sampling.sampler import Sampler
from pmtool.system.limits import cpu_count

SHAPE = (100, 132)
MakePairs = Callable[[tuple[int, int], int], list[SlicePair]]


def test_plan(bundle: Bundle) -> None:
    sampler = Sampler(bundle, SamplerOptions(window=64, batch=3, threads=2, memory=2**34))
    plan = sampler.plan((512, 512), 10)
    assert (plan.window, plan.batch, plan.workers) == ((64, 64), 3, 2)
    assert 0 < plan.memory <= 2**34
    assert plan.seconds_per_slice > 0


def test_windows_that_know_different_parts_are_not_generated_at_once(bundle: Bundle) -> None:
    assert make_plan(bundle, SamplerOptions(window=272, device="cpu"), (512, 512), 1).batch == 1


def test_plan_for_gpus(bundle: Bundle) -> None:
    """A worker a GPU, and as large a batch as a share of its memory holds."""
    layout = Layout(bundle.hyperparameters)
    lane, slices = Buffers.size(layout, 64, 64, 1), PairGroup.size(layout.hyperparameters, 512, 512)
    room = int((30 * lane + 5 * slices) / GPU_SHARE) + 1

    def planned(pairs: int = 10, free: int = room, **options: Any) -> Plan:
        asked = SamplerOptions(**options)
        return make_gpu_plan(layout, asked, (512, 512), pairs, gpus=2, free=free)

    assert (planned().workers, planned().batch, max(planned().window)) == (2, 30, 64)
    assert planned(pairs=1).workers == 1
    assert planned(batch=3).batch == 3
    assert planned(window=128).batch == 7
    assert planned(free=0).batch == 1
    assert planned().memory == 30 * lane + 5 * slices
    assert planned(batch=3).memory == 3 * (lane + slices)
    few = planned(pairs=3, window="full", free=2**40)  # at most two pairs a worker, of one window
    assert few.batch == 2
    assert few.memory == 2 * (Buffers.size(layout, 512, 512, 1) + slices)


def test_no_more_threads_than_there_are(bundle: Bundle) -> None:
    asked = SamplerOptions(threads=10**6, device="cpu")
    assert make_plan(bundle, asked, SHAPE, 10**6).threads == cpu_count()


def test_an_estimate_tells_both_sides_of_a_window(bundle: Bundle) -> None:
    """Two that have one side in common make different slices."""
    found = [
        Sampler(bundle, SamplerOptions(window=window)).plan((512, 300), 1).window
        for window in (None, 272)
    ]
    assert found[0] != found[1]
    assert max(found[0]) == max(found[1])


def test_too_little_memory(bundle: Bundle, make_pairs: MakePairs) -> None:
    sampler = Sampler(bundle, SamplerOptions(memory=1))
    with pytest.raises(MemoryBudgetError, match="more with --memory or take a smaller --window"):
        sampler.plan((512, 512), 10)
    with pytest.raises(MemoryBudgetError):
        next(sampler.generate(make_pairs((20, 20), 1)))


def test_a_second_worker_needs_memory_for_two_lanes_unless_one_is_asked_for(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pmtool.sampling.options.cpu_count", lambda: 2)
    monkeypatch.setattr("pmtool.sampling.plan.free_memory", lambda: 2**34)
    two = make_plan(bundle, SamplerOptions(threads=2, batch=1, memory=2**34), (512, 512), 10)
    assert two.workers == 2
    for batch, workers in ((None, 1), (1, 2)):
        asked = SamplerOptions(threads=2, batch=batch, memory=two.memory + 2**24)
        assert make_plan(bundle, asked, (512, 512), 10).workers == workers


def test_no_thread_is_left_over(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where workers have different numbers of threads, the model is loaded for each of these."""
    monkeypatch.setattr("pmtool.sampling.options.cpu_count", lambda: 5)
    monkeypatch.setattr("pmtool.sampling.plan.free_memory", lambda: 2**34)
    asked = SamplerOptions(batch=1, memory=2**34, device="cpu")
    plans = {pairs: make_plan(bundle, asked, SHAPE, pairs) for pairs in (1, 3, 5)}
    threads = [[plan.threads_of(i) for i in range(plan.workers)] for plan in plans.values()]
    assert threads == [[5], [2, 2, 1], [1] * 5]
    worker = (plans[5].memory - plans[1].memory) / 4
    model = GRAPHS_BYTES + WEIGHT_COPIES * bundle.weights.stat().st_size
    more = plans[3].memory - plans[1].memory - 2 * worker
    assert more == pytest.approx(model, abs=2**20)  # the process itself may grow a little
    assert plans[1]._replace(workers=7).threads_of(6) == 1


@pytest.mark.parametrize("window", [1, 32, 66])
def test_impossible_window(bundle: Bundle, window: int) -> None:
    with pytest.raises(UsageError, match=f"a window of {window} pixels"):
        Sampler(bundle, SamplerOptions(window=window)).plan((512, 512), 10)


@pytest.mark.parametrize("name", ["batch", "threads", "memory"])
def test_options_are_positive(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    with pytest.raises(UsageError, match=f"{name} must be positive"):
        SamplerOptions(**options)


@pytest.mark.parametrize(
    "hyperparameters",
    [
        COMPACT,
        replace(COMPACT, channels=32),
        replace(COMPACT, encoder=64),
        replace(COMPACT, blocks=2),
        Hyperparameters(32),
        Hyperparameters(16, blocks=3),
    ],
    ids=str,
)
def test_operations(hyperparameters: Hyperparameters) -> None:
    """As PyTorch counts them in a forward pass."""
    network, size = PixelMiner(hyperparameters).eval().requires_grad_(False), 64
    slices = torch.zeros(3, 1, 1, size, size)
    with FlopCounterMode(display=False) as counter:
        network(*slices, torch.ones(1, 1, 1, 1))
    expected = counter.get_total_flops()
    assert operations(hyperparameters, size**2) == pytest.approx(expected, rel=0.1)
