"""The benchmark's parts on tiny sizes, with a small network in PyTorch in place of a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from pmtool.backends.torch import TorchBackend
from pmtool.benchmark.cached import Clock, TimedBackend
from pmtool.benchmark.naive import PassCost, TimedNetwork, pass_costs
from pmtool.benchmark.parity import generate_strip, largest_difference
from pmtool.benchmark.peaks import measure_peak
from pmtool.benchmark.report import Report, Run, StripReport, table, write_report
from pmtool.benchmark.scene import make_scene
from pmtool.benchmark.timing import torch_threads
from pmtool.errors import OutputError, UsageError
from pmtool.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_network, folded_state
from pmtool.network.inference import ArrayNetwork

SMALL = Hyperparameters(channels=2, mixtures=2)


@pytest.fixture(scope="module")
def network() -> PixelMiner:
    torch.manual_seed(2)
    return folded_network(SMALL, folded_state(PixelMiner(SMALL)))


def test_scene_of_a_phantom() -> None:
    scene = make_scene(None, 2, 64)
    assert len(scene.pairs) == len(scene.truths) == 2
    assert np.array_equal(scene.pairs[0].below, scene.pairs[1].above)
    assert scene.busiest(64) == (1, 0, 0)


def test_scene_of_a_scan(tmp_path: Path) -> None:
    slices = np.arange(9, dtype=np.int16)[:, None, None] * np.ones((9, 8, 8), np.int16) - 500
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(slices), str(path))
    scene = make_scene(path, 2, 512)
    assert [int(truth[0, 0]) for truth in scene.truths] == [-497, -495]
    assert [int(pair.above[0, 0]) for pair in scene.pairs] == [-498, -496]
    sitk.WriteImage(sitk.GetImageFromArray(slices[:2]), str(path))
    with pytest.raises(UsageError, match="three or more"):
        make_scene(path, 2, 512)


def test_parity_and_clocks(network: PixelMiner) -> None:
    scene, clock = make_scene(None, 1, 68), Clock()
    backend = TimedBackend(TorchBackend(network), clock)
    naive = TimedNetwork(network)
    with torch_threads(1):
        pair, truth = scene.pairs[0], scene.truths[0][:64, :64]
        window = pair._replace(above=pair.above[:64, :64], below=pair.below[:64, :64])
        strip = generate_strip(backend, naive, window, truth, 1, 0)
        assert largest_difference(backend, ArrayNetwork(network), pair, 64, 0) < 1e-4
    assert strip.equal >= 63 / 64
    assert strip.largest <= 1
    assert np.array_equal(strip.cached[:-1], truth[:-1].clip(*SMALL.hu_window))
    assert naive.cost().passes == 64
    assert set(clock.seconds) == {"window", "row", "pixel"}


def test_costs(network: PixelMiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmtool.benchmark.timing.RUNS", 2)
    before = torch.get_num_threads()
    costs = pass_costs(network, 1)
    assert {(cost.threads, cost.batch, cost.passes) for cost in costs} == {(1, 1, 2), (1, 8, 16)}
    assert costs[0].seconds <= costs[1].seconds
    assert torch.get_num_threads() == before


def test_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both within what any processor of these years does."""
    monkeypatch.setattr("pmtool.benchmark.peaks.GEMM_SIZE", {"cpu": 256})
    peak = measure_peak("cpu", "float32", 1)
    assert 1e8 < peak.gemm < 1e13
    assert 1e8 < peak.bandwidth < 1e12


def _report() -> Report:
    def run(name: str, window: int, seconds: float) -> Run:
        place = (window, window)
        return Run(name, "x", 2, 2, (256, 256), place, 1, 1, seconds, 1.0)

    strip = StripReport((0, 0, 0), 1, 64, 1.0, 0, {"naive": None}, {"naive": None})
    return Report(
        scene="phantom",
        model="m",
        model_hash="0",
        gemm_gflops=10,
        passes=[PassCost(1, 1, 0.1, 64)],
        max_logit_difference={64: 1e-6, 192: 2e-6},
        strip=strip,
        naive=run("naive", 64, 100),
        window_64=run("cached, 64", 64, 2),
        default=run("cached, 192", 192, 1),
    )


def test_report(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_report(_report(), path)
    values = json.loads(path.read_text())
    assert values["speedup"] == 100
    assert values["speedup_window_64"] == 50
    assert values["seconds_per_slice_512"] == 2
    assert values["max_logit_difference"] == 2e-6
    assert values["equal_pixels"] == 1
    wanted = {"device", "backend", "precision", "channels", "pairs", "size", "batch", "seconds"}
    assert all(wanted <= run.keys() for run in values["runs"])
    assert len(values["runs"]) == 3
    assert "speed-up 100, at window 64 50" in table(_report())
    assert "OpenCV" in table(_report())
    with pytest.raises(OutputError):
        write_report(_report(), tmp_path / "none" / "result.json")
