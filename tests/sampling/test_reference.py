"""The naive sampler alone, and against the cached one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pmtool.arrays import Float32s
from pmtool.backends.torch import TorchBackend
from pmtool.choices import Mode
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_network, folded_state
from pmtool.network.inference import ArrayNetwork
from pmtool.pixels.levels import to_pixels
from pmtool.pixels.mixture import Mixture
from pmtool.pixels.uniforms import window_uniforms
from pmtool.sampling.lane_cache import LaneCache
from pmtool.sampling.pairs import Neighbours, PairGroup, SlicePair
from pmtool.sampling.reference import generate_slice, generate_window
from pmtool.sampling.windows import Window

SMALL = Hyperparameters(channels=3, mixtures=2)


class Neighbour:
    """A network whose every pixel is one level more than its left neighbour."""

    hyperparameters = Hyperparameters(channels=1, mixtures=1)

    def __call__(self, neighbours: Neighbours, target: Float32s) -> Mixture:
        unit = to_pixels(1, 12) - to_pixels(0, 12)
        means = np.roll(target, 1, axis=1) + unit
        means[:, 0] = neighbours.above[0, 0, :, 0]
        return Mixture(np.zeros((64, 64, 1)), means[..., None], np.full((64, 64, 1), -7.0))


def pair(height: int = 64, width: int = 64) -> SlicePair:
    rng = np.random.default_rng(3)
    above, below = rng.integers(-1000, 400, (2, height, width)).astype(np.int16)
    return SlicePair(above, below, 0.5, 7)


@pytest.fixture(scope="module")
def network() -> PixelMiner:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    plain = PixelMiner(SMALL)
    return folded_network(SMALL, folded_state(plain))


@pytest.mark.parametrize("mode", ["median", "mean"])
def test_window_in_raster_order(mode: Mode) -> None:
    above = to_pixels(np.full((64, 64), 100), 12)
    window = Window(0, 0, 64, 64, 62, 60)
    known = to_pixels(np.full((64, 64), 7), 12)
    half = np.full((64, 64), 0.5, np.float32)
    slices = above[None, None]
    outer = Neighbours(slices, slices, np.ones((1, 1, 1, 1), np.float32))
    found = generate_window(Neighbour(), outer, known, window, half, mode)
    assert np.array_equal(found[:62], known[:62])
    assert np.array_equal(found[:, :60], known[:, :60])
    expected = to_pixels(np.tile([8, 9, 10, 11], (2, 1)), 12)
    np.testing.assert_allclose(found[62:, 60:], expected, atol=1e-6)


def test_slice_is_padded_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Window] = []

    def record(network: object, neighbours: Neighbours, known: Float32s, *rest: object) -> Float32s:
        assert isinstance(rest[0], Window)
        seen.append(rest[0])
        above: Float32s = neighbours.above[0, 0]
        return above

    monkeypatch.setattr("pmtool.sampling.reference.generate_window", record)
    given = pair(70, 61)
    assert np.array_equal(generate_slice(Neighbour(), given), given.above)
    assert [(w.top, w.known_rows, w.known_columns) for w in seen] == [(0, 0, 0), (8, 56, 0)]


@pytest.mark.parametrize(
    ("mode", "known"),
    [("sample", (63, 0)), ("sample", (48, 60)), ("mean", (62, 32))],
)
def test_equals_the_cached_sampler(network: PixelMiner, mode: Mode, known: tuple[int, int]) -> None:
    window = Window(0, 0, 64, 64, *known)
    backend, batch = TorchBackend(network), [(0, window)]
    group = PairGroup(SMALL, [pair()], (64, 64), backend.memory)
    target = to_pixels(np.random.default_rng(4).integers(0, 1500, (64, 64)), 12)
    backend.memory.upload(group.targets[0], target)
    neighbours, places = group.neighbours(batch), group.places(batch)
    uniforms = window_uniforms(5, places, 64, 64)[..., 0]
    slow = generate_window(ArrayNetwork(network), neighbours, target, window, uniforms, mode)
    chooser = "mean" if mode == "mean" else "quantile"
    lanes = LaneCache(backend, SMALL, (64, 64)).lanes(1, known[1], chooser)
    lanes.prepare(group, batch)
    lanes.draw(places, 5, mode)
    lanes.generate(group, batch)
    fast = group.target(0, window)
    levels = np.rint((fast - slow) * 4095 / 2)
    assert np.count_nonzero(levels) <= 2
    assert np.abs(levels).max() <= 1
