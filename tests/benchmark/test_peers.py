"""The benchmark's peers: two samplers that share nothing but the network must agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pmtool.benchmark.peers import Windows, draw, generate_naive, generate_with_caches
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import Mixture, PixelMiner
from pmtool.network.folding import folded_network, folded_state
from pmtool.pixels import mixture
from pmtool.pixels.levels import to_levels

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Hyperparameters(channels=3, mixtures=2)


def random_network(hyperparameters: Hyperparameters) -> PixelMiner:
    """In double precision, with weights large enough that every pixel counts."""
    torch.manual_seed(0)
    network = PixelMiner(hyperparameters)
    for name, parameter in network.named_parameters():
        if name.endswith("original0"):
            parameter.data.mul_(1.5)
        if name.startswith("encoder.output"):
            torch.nn.init.normal_(parameter, std=0.5)
    return folded_network(hyperparameters, folded_state(network)).double()


def random_windows(first: int, margin: int) -> Windows:
    generator = torch.Generator().manual_seed(first)
    size = 8 + 2 * margin, 8 + 2 * margin
    above, below = torch.rand(2, 2, 1, *size, generator=generator, dtype=torch.float64) * 2 - 1
    known = torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    known[:, :, first:] = 0
    thickness, uniforms = (
        torch.rand(2, *shape, generator=generator) for shape in [(1, 1, 1), (8, 8)]
    )
    return Windows(first, above, below, thickness.double(), known, uniforms)


@pytest.mark.parametrize("first", [0, 3, 5])
@pytest.mark.parametrize("hyperparameters", [TINY, replace(TINY, blocks=2, encoder=2)])
def test_cached_and_naive_peers_agree(hyperparameters: Hyperparameters, first: int) -> None:
    network = random_network(hyperparameters)
    windows = random_windows(first, hyperparameters.margin)
    naive = generate_naive(network, windows, 3, 12)
    cached = generate_with_caches(network, windows, 3, 12)
    assert torch.equal(naive.pixels, cached.pixels)
    assert torch.equal(naive.pixels[:, :, :first], windows.known[:, :, :first])
    assert naive.pixels[:, :, first : first + 3].std() > 0.05
    assert not naive.pixels[:, :, first + 3 :].any()


def test_draw_is_the_quantile() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, 1, (500, 6)), rng.normal(0, 0.5, (500, 6)), rng.uniform(-7, 0, (500, 6))]
    uniforms = rng.uniform(0, 1, 500)
    pixels = draw(Mixture(*(torch.tensor(x) for x in parts)), torch.tensor(uniforms), 12)
    expected = mixture.quantile(mixture.Mixture(*parts), uniforms, 12)
    np.testing.assert_array_equal(to_levels(pixels.numpy(), 12), expected)
