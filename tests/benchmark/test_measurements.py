"""Clocks, costs, peaks, parity and peers, on tiny sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pmtool.arrays import Float32s
from pmtool.backends.selection import Engine
from pmtool.backends.torch import TorchBackend
from pmtool.backends.torch_threads import torch_threads
from pmtool.benchmark.cached import Clock, TimedBackend, run_cached
from pmtool.benchmark.naive import PassCost, PlainNetwork, TimedNetwork, pass_costs, threads_for_one
from pmtool.benchmark.parity import generate_strip, largest_difference
from pmtool.benchmark.peaks import measure_peak
from pmtool.benchmark.peer_runs import COMPILED, reason, time_peers
from pmtool.benchmark.scaling import Point, measure_scaling
from pmtool.benchmark.scene import make_scene
from pmtool.interface.host import HostMemory
from pmtool.models.bundle import Bundle
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.inference import ArrayNetwork
from pmtool.pixels.mixture import Mixture
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import Neighbours, PairGroup, SlicePair
from pmtool.sampling.plan import Plan
from pmtool.sampling.sampler import Sampler
from pmtool.sampling.windows import Window


def test_parity_and_clocks(network: PixelMiner) -> None:
    scene, clock = make_scene(None, 1, 68), Clock()
    backend = TimedBackend(TorchBackend(network), clock)
    told = list[int]()
    naive = TimedNetwork(network, told.append)
    with torch_threads(1):
        pair, truth = scene.pairs[0], scene.truths[0][:64, :64]
        window = pair._replace(above=pair.above[:64, :64], below=pair.below[:64, :64])
        strip = generate_strip(backend, naive, window, truth, 1, 0)
        assert largest_difference(backend, ArrayNetwork(network), pair, 64, 0) < 1e-4
    assert strip.equal >= 63 / 64
    assert strip.largest <= 1
    assert np.array_equal(strip.cached[:-1], truth[:-1].clip(*network.hyperparameters.hu_window))
    assert naive.cost().passes == 64
    assert told == list(range(1, 65))
    assert set(clock.seconds) == {"window", "row", "pixel"}


def test_nan_is_not_a_small_difference(network: PixelMiner) -> None:
    """Not even in the first window, if all others agree."""

    class Spoilt(ArrayNetwork):
        first = True

        def __call__(self, neighbours: Neighbours, target: Float32s) -> Mixture:
            found = super().__call__(neighbours, target)
            factor, self.first = np.nan if self.first else 1, False
            return found._replace(means=found.means * factor)

    pair, backend = make_scene(None, 1, 68).pairs[0], TorchBackend(network)
    with torch_threads(1):
        assert np.isnan(largest_difference(backend, Spoilt(network), pair, 64, 0))


@pytest.mark.parametrize("shares", [True, False])
def test_clock_on_a_gpu(monkeypatch: pytest.MonkeyPatch, shares: bool) -> None:
    """Engines are built before it starts, and only the shares take a second run."""
    happened: list[tuple[str, object]] = []

    class Built(Engine):
        def load(self, bundle: Bundle, device: str, threads: int) -> Any:
            happened.append(("load", device))
            return SimpleNamespace(
                name="x",
                device=device,
                precision="float32",
                memory=None,
                windows_per_call=1,
                keeps_programs=(),
            )

    def generate(sampler: Any, pairs: Sequence[SlicePair], progress: object, plan: Plan) -> Any:
        happened.append(("generate", sampler.clock.running))
        assert plan.workers == 2
        yield from ((index, pair.above) for index, pair in enumerate(pairs))

    engine = Built("tensorrt", ("cuda:0", "cuda:1"), "float32")
    monkeypatch.setattr("pmtool.sampling.sampler.working_engines", lambda *asked: iter([engine]))
    monkeypatch.setattr("pmtool.sampling.startup.check_generates", lambda *made: None)
    monkeypatch.setattr("pmtool.sampling.sampler.free_gpu_memory", lambda device: 1 << 30)
    monkeypatch.setattr(Sampler, "generate", generate)
    pairs = make_scene(None, 2, 64).pairs
    run = run_cached(Bundle.load(), SamplerOptions(threads=1), pairs, shares=shares)
    clocked = [("generate", True)] if shares else []
    assert happened == [("load", "cuda:0"), ("load", "cuda:1"), ("generate", False), *clocked]
    assert run.start >= 0
    assert (run.shares is not None) == shares


def test_reference_is_not_in_tf32(network: PixelMiner) -> None:
    """Of the plain network's passes, all in full float32 and by cuDNN."""
    seen = []

    def look(module: object, arguments: object) -> None:
        seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))

    before = torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32
    hook = network.register_forward_pre_hook(look)
    outer, target = np.zeros((1, 1, 64, 64), np.float32), np.zeros((64, 64), np.float32)
    PlainNetwork(network)(Neighbours(outer, outer, np.ones((1, 1, 1, 1), np.float32)), target)
    pass_costs(network, 1, 1)
    hook.remove()
    assert set(seen) == {(True, False)}
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32) == before


def test_costs(network: PixelMiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmtool.benchmark.timing.RUNS", 2)
    before = torch.get_num_threads()
    costs = pass_costs(network, 1, 4)
    assert {(cost.threads, cost.batch, cost.passes) for cost in costs} == {(1, 1, 2), (1, 8, 16)}
    assert torch.get_num_threads() == before


def test_costs_are_of_the_naive_samplers_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its windows have the margin that the encoder sees, however many a pass takes."""
    torch.manual_seed(0)
    network = PixelMiner(Hyperparameters(channels=2, mixtures=2, encoder=2)).eval()
    shapes = set[tuple[tuple[int, ...], ...]]()
    pairs = make_scene(None, 1, 64).pairs
    group = PairGroup(network.hyperparameters, pairs, (64, 64), HostMemory())
    neighbours = group.neighbours([(0, Window(0, 0, 64, 64, 0, 0))])

    def look(module: object, arguments: Sequence[torch.Tensor]) -> None:
        shapes.add(tuple(tuple(x.shape[1:]) for x in arguments))

    monkeypatch.setattr("pmtool.benchmark.timing.RUNS", 1)
    network.register_forward_pre_hook(look)
    PlainNetwork(network)(neighbours, np.zeros((64, 64), np.float32))
    pass_costs(network, 2, 2)
    assert shapes == {((1, 96, 96), (1, 64, 64), (1, 96, 96), (1, 1, 1))}


def test_costs_of_several_slices_at_once(
    network: PixelMiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set[int]()
    network.register_forward_hook(lambda *_: threads.add(torch.get_num_threads()))
    monkeypatch.setattr("pmtool.benchmark.timing.RUNS", 2)
    found = [cost for cost in pass_costs(network, 3, 2) if cost.at_once > 1]
    assert [(x.threads, x.batch, x.passes, x.at_once) for x in found] == [(1, 1, 4, 2)]
    assert threads == {1, 3}
    assert all(cost.at_once == 1 for cost in pass_costs(network, 3, 1))


def test_threads_for_one_pass() -> None:
    """Of the passes one by one, though others that share the machine are faster per window."""
    costs = [(2, 8, 0.10, 48, 1), (1, 1, 0.11, 20, 2), (2, 1, 0.14, 10, 1), (1, 1, 0.19, 10, 1)]
    assert threads_for_one(PassCost(*cost) for cost in costs) == 2


def test_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that tells 4 and 2 seconds, of which the shorter counts."""

    def repeat(work: Callable[[], object], device: str) -> list[float]:
        work()
        return [4.0, 2.0]

    monkeypatch.setattr("pmtool.benchmark.peaks.GEMM_SIZE", {"cpu": 16})
    monkeypatch.setattr("pmtool.benchmark.peaks.COPY_BYTES", 1 << 10)
    monkeypatch.setattr("pmtool.benchmark.peaks.repeat", repeat)
    peak = measure_peak("cpu", "float32", 1)
    assert (peak.gemm, peak.bandwidth) == (16**3, 1 << 10)


def test_scaling_stops_at_its_budget() -> None:
    measured: list[Point] = []

    def generate(pairs: Sequence[SlicePair], point: Point) -> float:
        assert len(pairs) == point.pairs
        assert pairs[-1].above.shape == (point.size, point.size)
        measured.append(point)
        return point.pixels / 128**2

    found = measure_scaling(generate, 7.5)
    assert measured == list(found.seconds) == [Point(1, 128), Point(1, 256)]
    assert found.left_out[0] == Point(8, 128)
    assert len(found.left_out) == 14
    assert len(measure_scaling(generate, 0).seconds) == 1


def test_peers_on_a_strip(network: PixelMiner, monkeypatch: pytest.MonkeyPatch) -> None:
    """They make the naive sampler's pixels; without a compiler a row is left out."""

    def no_compiler(network: PixelMiner) -> PixelMiner:
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found")

    monkeypatch.setattr("torch.compile", no_compiler)
    monkeypatch.setattr("pmtool.benchmark.peer_runs.BATCHES", (1, 2))
    scene = make_scene(None, 2, 64)
    with torch_threads(1):
        backend, plain = TorchBackend(network), ArrayNetwork(network)
        strip = generate_strip(backend, plain, scene.pairs[0], scene.truths[0], 1, 0)
        found = time_peers(network, strip, scene, 0, lambda label, share: None)
    assert list(found.left_out) == [COMPILED]
    assert "g++" in found.left_out[COMPILED]
    assert [(run.batch, run.passes) for run in found.runs] == [(1, 64), (1, 64), (2, 128)]
    assert all((run.equal_pixels or 0) >= 63 / 64 for run in found.runs)
    assert found.runs[1].seconds < found.runs[0].seconds
    assert reason(RuntimeError()) == "torch.compile fails: RuntimeError"
