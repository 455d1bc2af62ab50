"""The graphs of the cached sampler against the whole network and the mixture's specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pmtool.arrays import Float32s
from pmtool.backends.torch import TorchBackend
from pmtool.choices import Mode
from pmtool.graphs import choose
from pmtool.graphs.composition import as_matrix, compose, edge_kernel, target_kernel
from pmtool.interface.buffers import Buffers
from pmtool.interface.layout import Layout
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import Mixture, PixelMiner
from pmtool.network.layers import Block, depths
from pmtool.pixels import mixture
from pmtool.pixels.levels import to_levels, to_pixels
from pmtool.sampling.lanes import Lanes
from pmtool.sampling.windows import Window
from tests.conftest import group_of

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Hyperparameters(channels=4, mixtures=2, encoder=4)
LANES = 2
KINDS = [(0, 0), (0, 12), (16, 0), (16, 12)]
BITS = 12
RandomMixture = Callable[..., mixture.Mixture]


def random_network(hyperparameters: Hyperparameters) -> PixelMiner:
    """With weights large enough that every pixel counts."""
    torch.manual_seed(0)
    network = PixelMiner(hyperparameters).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("original0"):  # the magnitude of a normalised weight
            parameter.mul_(1.5)
        if name.startswith("encoder.output"):  # zero at first
            torch.nn.init.normal_(parameter, std=0.5)
    return network


def random_slices(count: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    levels = np.random.default_rng(count).integers(0, 2**BITS, (count, *shape))
    return to_pixels(levels, BITS)


class Generated:
    """A batch of windows of one kind from `TorchBackend`, with what was recorded on the way."""

    def __init__(self, network: PixelMiner, window: Window, chooser: str = "quantile") -> None:
        shape = window.height, window.width
        self.window = window
        margin = network.hyperparameters.margin
        around = window.height + 2 * margin, window.width + 2 * margin
        self.above, self.below = random_slices(2 * LANES, around).reshape(2, LANES, 1, *around)
        self.relative_thickness = np.linspace(0.2, 1, LANES, dtype=np.float32).reshape(-1, 1, 1, 1)
        self.known = np.ascontiguousarray(random_slices(LANES, shape).transpose(1, 2, 0))
        rng = np.random.default_rng(1)
        self.uniforms = rng.uniform(1e-6, 1 - 1e-6, (*shape, LANES)).astype(np.float32)
        self.rows: dict[int, Float32s] = {}
        backend = TorchBackend(network)
        buffers = Buffers(backend.memory, Layout(network.hyperparameters), *shape, LANES, 2)
        lanes = Lanes(backend, buffers, window.known_columns, chooser)
        outer = self.above, self.below, self.relative_thickness
        batch = [(lane, window) for lane in range(LANES)]
        for _ in range(2):  # the second time nothing of the first may be left
            group = group_of(network.hyperparameters, backend.memory, *outer, self.known)
            lanes.prepare(group, batch)
            lanes.take(self.uniforms)
            lanes.generate(group, batch, lambda row: self.record(row, lanes.parameters()))
            self.pixels = np.stack([group.target(*place) for place in batch], axis=-1)

    def record(self, row: int, parameters: Float32s) -> None:
        self.rows[row] = parameters

    @property
    def parameters(self) -> Tensor:
        """Of the generated pixels: ``(M, 3 K, rows, columns)``."""
        rows = range(self.window.known_rows, self.window.height)
        stacked = np.stack([self.rows[row] for row in rows])
        return torch.from_numpy(stacked).permute(2, 3, 0, 1)

    def new(self, x: Tensor) -> Tensor:
        """The generated part of ``(..., H, W)``."""
        return x[..., self.window.known_rows :, self.window.known_columns :]

    def teacher_forced(self, network: PixelMiner) -> Mixture:
        """The whole network on the generated windows."""
        target = self.pixels.transpose(2, 0, 1)[:, None]
        given = self.above, target, self.below, self.relative_thickness
        found: Mixture = network(*map(torch.tensor, given))
        return found

    def check(self, network: PixelMiner) -> None:
        own = network.hyperparameters.target_mixtures
        forced = self.teacher_forced(network)
        expected = torch.cat([self.new(p[:, own]) for p in forced], dim=1)
        torch.testing.assert_close(self.parameters, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("known", KINDS, ids=["first", "right", "lower", "corner"])
@pytest.mark.parametrize("encoder", [4, 0], ids=["encoder", "paper"])
def test_every_kind_of_window(known: tuple[int, int], encoder: int) -> None:
    network = random_network(replace(TINY, encoder=encoder))
    Generated(network, Window(0, 0, 24, 32, *known)).check(network)


@pytest.mark.parametrize(
    ("hyperparameters", "shape"),
    [
        (replace(TINY, blocks=2), (24, 32)),
        (replace(TINY, channels=3, mixtures=1), (16, 20)),
        (replace(TINY, channels=6, mixtures=3), (36, 24)),
        (replace(TINY, bits=8), (16, 16)),
    ],
)
def test_sizes(hyperparameters: Hyperparameters, shape: tuple[int, int]) -> None:
    network = random_network(hyperparameters)
    Generated(network, Window(0, 0, *shape, 8, 4)).check(network)


@pytest.mark.parametrize("chooser", ["quantile", "mean"])
def test_pixels_are_chosen_from_the_mixture(chooser: str) -> None:
    """But for a level where float32 rounds a threshold to the other side."""
    network = random_network(TINY)
    run = Generated(network, Window(0, 0, 16, 24, 4, 4), chooser)
    forced = (run.new(p).permute(0, 2, 3, 1).numpy() for p in run.teacher_forced(network))
    uniforms, pixels = (
        run.new(torch.from_numpy(x).permute(2, 0, 1)).numpy() for x in (run.uniforms, run.pixels)
    )
    mode: Mode = "mean" if chooser == "mean" else "sample"
    expected = mixture.choose(mixture.Mixture(*forced), uniforms, BITS, mode)
    difference = np.abs(to_levels(pixels, BITS) - expected)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.02


def test_known_pixels_are_kept() -> None:
    run = Generated(random_network(TINY), Window(0, 0, 16, 16, 8, 4))
    np.testing.assert_array_equal(run.pixels[:8], run.known[:8])
    np.testing.assert_array_equal(run.pixels[:, :4], run.known[:, :4])
    assert (run.pixels[8:, 4:] != run.known[8:, 4:]).any()


def test_composed_kernel_is_two_convolutions() -> None:
    generator = torch.Generator().manual_seed(0)
    inner = torch.randn(5, 3, 2, 3, generator=generator, dtype=torch.float64)
    outer = torch.randn(4, 5, 2, 2, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 3, 9, 10, generator=generator, dtype=torch.float64)
    expected = F.conv2d(F.conv2d(x, inner), outer)
    torch.testing.assert_close(F.conv2d(x, compose(outer, inner)), expected)


def block_of(kernel: tuple[int, int], stride: int, *, causal_left: bool) -> Block:
    torch.manual_seed(1)
    block = Block(3, 5, kernel, stride, causal_left=causal_left).double().requires_grad_(False)
    for convolution in (block.pair, block.merge, block.outer):
        assert convolution.bias is not None
        convolution.bias.zero_()
    return block


def target_alone(block: Block, target: Tensor) -> Tensor:
    nothing = torch.zeros_like(target)
    return depths(block(torch.cat((nothing, nothing, target))))[2]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(2, 2), (2, 1)])
def test_target_kernel_of_the_horizontal_stack(kernel: tuple[int, int], stride: int) -> None:
    """Exact everywhere: all padding is on the left and above, and zero stays zero."""
    block = block_of(kernel, stride, causal_left=True)
    target = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    height, width = 2 * kernel[0] - 2, 2 * kernel[1] - 2
    composed = F.conv2d(F.pad(target, (width, 0, height, 0)), target_kernel(block), stride=stride)
    torch.testing.assert_close(target_alone(block, target), composed)


@pytest.mark.parametrize("kernel", [(2, 3), (1, 3)])
def test_target_kernel_of_the_vertical_stack_is_mended_at_its_edges(
    kernel: tuple[int, int],
) -> None:
    block = block_of(kernel, 1, causal_left=False)
    target = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    padded = F.pad(target, (2, 2, 2 * kernel[0] - 2, 0))
    composed = F.conv2d(padded, target_kernel(block))
    for side, column in (("left", 0), ("right", -1)):
        edge = edge_kernel(block, side)[..., None]
        inner = padded[..., 2:-2][..., column, None]
        composed[..., column] -= F.conv2d(inner, edge)[..., 0]
    torch.testing.assert_close(target_alone(block, target), composed)


def test_as_matrix_gives_every_column_tap() -> None:
    kernel, rows = torch.randn(5, 3, 2, 3), torch.randn(7, 3, 2)
    columns = rows.permute(0, 2, 1).reshape(7, 6)  # rows concatenated by channel
    taps = (columns @ as_matrix(kernel)).reshape(7, 3, 5)
    expected = torch.einsum("oirk,wir->wko", kernel, rows)
    torch.testing.assert_close(taps, expected)


def components(source: mixture.Mixture) -> choose.Components:
    logits, means, log_scales = (torch.from_numpy(part) for part in source)
    return choose.Components(torch.softmax(logits, dim=1), means, torch.exp(-log_scales))


def chosen_quantile(source: mixture.Mixture, u: NDArray[np.float32], bits: int) -> NDArray[np.int_]:
    tails = torch.from_numpy(mixture.nearer_tail(u))[:, None]
    edges = choose.upper_edges(bits)
    return choose.quantile(components(source), tails, edges).numpy()[:, 0].astype(int)


@pytest.mark.parametrize("bits", [1, 6, 8, 12])
def test_quantile(bits: int, random_mixture: RandomMixture) -> None:
    source = random_mixture(3000)
    u = np.random.default_rng(0).uniform(1e-6, 1 - 1e-6, 3000).astype(np.float32)
    difference = np.abs(chosen_quantile(source, u, bits) - mixture.quantile(source, u, bits))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01


@pytest.mark.parametrize("u", [2**-24, 0.5, 1 - 2**-24])
def test_quantile_of_extreme_uniforms(u: float, random_mixture: RandomMixture) -> None:
    source = random_mixture(1000, narrow=True)
    uniforms = np.full(1000, u, np.float32)
    expected = mixture.quantile(source, uniforms, BITS)
    np.testing.assert_allclose(chosen_quantile(source, uniforms, BITS), expected, atol=2)


def test_mean(random_mixture: RandomMixture) -> None:
    source = random_mixture(3000)
    found = choose.mean(components(source), BITS).numpy()[:, 0]
    difference = np.abs(found - mixture.mean(source, BITS))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01


@pytest.mark.parametrize(("centre", "level"), [(-1e4, 0), (1e4, 4095), (0.5, 3071)])
def test_extreme_means(centre: float, level: int) -> None:
    one = np.ones((1, 1), np.float32)
    source = mixture.Mixture(one, centre * one, -7 * one)
    assert choose.mean(components(source), BITS).item() == level
    assert chosen_quantile(source, np.full(1, 0.5, np.float32), BITS) == level
