"""The network against what the paper and its parameter counts say, causality pixel by pixel."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pmtool.models.hyperparameters import (
    COMPONENT_LOG_SCALE_MAX,
    COMPONENT_MAX,
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    PAPER,
    RESIDUAL_MAX,
    Hyperparameters,
)
from pmtool.network import (
    Mixture,
    PixelMiner,
    bits_per_pixel,
    log_probability,
    standard_deviation,
)
from pmtool.network.encoder import Encoder
from pmtool.network.layers import Block, concat_elu, depths

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 16
TINY = Hyperparameters(channels=4, mixtures=2)
CHANGED, SAME = 1e-9, 1e-12  # of float64 outputs of order 1
THICKNESS = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(math.prod(shape))
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.fixture(scope="module", params=[4, 0], ids=["encoder", "paper"])
def network(request: pytest.FixtureRequest) -> PixelMiner:
    """A tiny network of random weights in double precision."""
    torch.manual_seed(0)
    network = PixelMiner(replace(TINY, encoder=request.param)).double().eval()
    if request.param:  # weights other than zero, and a scale so large that no residual is limited
        for parameter, mean in zip(network.encoder.output.parameters(), (0, 4), strict=True):
            torch.nn.init.normal_(parameter, mean, std=0.1)
    return network


@pytest.fixture(scope="module")
def slices() -> tuple[Tensor, Tensor, Tensor]:
    above, target, below = random(3, 1, 1, SIZE, SIZE)
    return above, target, below


def outputs(mixture: Mixture) -> Tensor:
    """Parameters by depth: ``(N, depths, H, W, parameters)``."""
    by_depth = [p.unflatten(1, (-1, TINY.mixtures)) for p in mixture]
    return torch.cat(by_depth, dim=2).movedim(2, -1)


def depths_of(network: PixelMiner) -> list[int]:
    """Depths that predict pixels: 1 is the target's."""
    return [1] if network.hyperparameters.encoder else [0, 1, 2]


@pytest.mark.parametrize(("channels", "count"), [(128, 46_233_148), (32, 2_901_436)])
def test_parameter_count(channels: int, count: int) -> None:
    network = PixelMiner(replace(PAPER, channels=channels))
    assert sum(p.numel() for p in network.parameters()) == count


@torch.no_grad()
def test_a_target_pixel_changes_only_what_comes_after_it(
    network: PixelMiner, slices: tuple[Tensor, Tensor, Tensor]
) -> None:
    size = 12
    above, target, below = (s[..., :size, :size] for s in slices)
    before = outputs(network(above, target, below, THICKNESS))
    columns = torch.arange(size)
    for row in range(size):
        changed = target.repeat(size, 1, 1, 1)
        changed[columns, 0, row, columns] += 0.5  # image x of the batch differs at (row, x)
        after = outputs(
            network(above.expand_as(changed), changed, below.expand_as(changed), THICKNESS)
        )
        change = (after - before).abs().amax(dim=-1)
        raster = change[:, depths_of(network).index(1)].flatten(1)
        if not network.hyperparameters.encoder:
            assert change[:, [0, 2]].max() < SAME
        for x in range(size):
            place = row * size + x
            assert raster[x, : place + 1].max() < SAME
            assert place == size**2 - 1 or raster[x, place + 1 :].max() > CHANGED


def test_a_pixel_sees_its_row_and_the_rows_above(
    network: PixelMiner, slices: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Far to the left in its own row, and on both sides in the rows above."""
    target = slices[1].clone().requires_grad_()
    row, column = 8, 12
    result = outputs(network(slices[0], target, slices[2], THICKNESS))
    result[0, depths_of(network).index(1), row, column].sum().backward()
    assert target.grad is not None
    seen = target.grad[0, 0].abs() > CHANGED
    assert seen[row, column - 8 : column].all()
    assert seen[row - 6 : row, column - 6 :].all()
    assert not seen[row, column:].any()
    assert not seen[row + 1 :].any()


@pytest.mark.parametrize("outer", [0, 2])
def test_outer_pixels_influence_outputs_before_and_after_them(
    network: PixelMiner, slices: tuple[Tensor, Tensor, Tensor], outer: int
) -> None:
    stack = [s.clone().requires_grad_() for s in slices]
    result = outputs(network(*stack, THICKNESS))
    for place, depth in enumerate(depths_of(network)):
        other = depth == 2 - outer
        output = result[0, place] if other else result[0, place, 8, 8]
        (gradient,) = torch.autograd.grad(output.sum(), stack[outer], retain_graph=True)
        if other:
            assert not gradient.any()
        else:  # its own depth, and the target's
            assert (gradient[0, 0].abs() > CHANGED)[5:12, 5:12].all()


@torch.no_grad()
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "causal_left"), [((2, 3), False), ((2, 2), True), ((1, 3), False), ((2, 1), True)]
)
def test_a_block_is_linear(kernel: tuple[int, int], causal_left: bool, stride: int) -> None:
    """The outer slices' share and the target's own add up; outer slices do not see the target."""
    block = Block(3, 5, kernel, stride, causal_left=causal_left).double()
    for convolution in (block.outer, block.pair, block.merge):
        assert convolution.bias is not None
        convolution.bias.zero_()
    above, below, target = random(3, 2, 3, 8, 8)
    nothing = torch.zeros_like(target)

    def run(above: Tensor, below: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return depths(block(torch.cat((above, below, target))))

    whole, outer, own = (
        run(above, below, target),
        run(above, below, nothing),
        run(nothing, nothing, target),
    )
    torch.testing.assert_close(whole[2], outer[2] + own[2])
    torch.testing.assert_close(whole[:2], outer[:2])
    assert whole[2].shape == (2, 5, 8 // stride, 8 // stride)


@torch.no_grad()
def test_both_neighbours_are_treated_alike() -> None:
    """The outer convolution shares its weights; so does pair, in the order of the slices."""
    block = Block(2, 3, (2, 3), causal_left=False).double()
    above, target = random(2, 1, 2, 8, 8)
    new_above, new_below, _ = depths(block(torch.cat((above, above, target))))
    torch.testing.assert_close(new_above, new_below)


def test_concat_elu() -> None:
    result = concat_elu(torch.tensor([[[[2.0]]]])).flatten()
    torch.testing.assert_close(result, torch.tensor([2.0, math.expm1(-2.0)]))


@torch.no_grad()
def test_components_are_relative_to_the_midpoint(
    network: PixelMiner, slices: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Seen with an output layer of weight zero."""
    k = TINY.mixtures
    network = copy.deepcopy(network)
    assert network.output.bias is not None
    network.output.parametrizations.weight.original0.zero_()  # type: ignore[union-attr, operator]
    network.output.bias.copy_(torch.arange(1 - 3 * k, 1) / 10)
    above, target, below = slices
    mixture = network(above, target, below, THICKNESS)
    midpoint = network.midpoint(above, below, THICKNESS)
    bias = network.output.bias.float()
    logits, means, log_scales = (
        b.reshape(1, k, 1, 1).repeat(1, len(depths_of(network)), 1, 1) for b in bias.chunk(3)
    )
    expected = Mixture(
        logits.expand_as(mixture.logits),
        midpoint.mean + midpoint.log_scale.exp() * means,  # no bias is beyond a limit
        midpoint.log_scale + log_scales,
    )
    torch.testing.assert_close(tuple(mixture), tuple(expected), check_dtype=False)


@torch.no_grad()
def test_without_an_encoder_pixels_are_their_own_residuals(
    slices: tuple[Tensor, Tensor, Tensor],
) -> None:
    midpoint = PixelMiner(TINY).midpoint(slices[0], slices[2], THICKNESS)
    assert torch.equal(midpoint.residual(slices[1]), slices[1])


@torch.no_grad()
def test_the_encoder_starts_at_the_linear_interpolation(
    slices: tuple[Tensor, Tensor, Tensor],
) -> None:
    above, target, below = slices
    midpoint = Encoder(4).double()(above, below, THICKNESS)
    linear = (above + below) / 2
    torch.testing.assert_close(midpoint.mean, linear)
    residual = midpoint.residual(target)
    assert residual.abs().max() == RESIDUAL_MAX
    inside = residual.abs() < RESIDUAL_MAX
    expected = (target - linear) * math.exp(4)
    torch.testing.assert_close(residual[inside], expected[inside])


@torch.no_grad()
def test_the_encoder_sees_the_thickness_up_to_touching_slices() -> None:
    """Of every pair for itself."""
    torch.manual_seed(0)
    encoder = Encoder(4).double()
    torch.nn.init.normal_(encoder.output.weight)
    above, below = random(2, 1, 1, SIZE, SIZE).expand(-1, 4, -1, -1, -1)
    thickness = torch.tensor([0.5, 0.8, 1.0, 1.7], dtype=torch.float64)[:, None, None, None]
    thin, thicker, touching, overlapping = encoder(above, below, thickness).mean
    assert (thin != thicker).all()
    assert (thicker != touching).all()
    assert torch.equal(touching, overlapping)
    alone = encoder(above[1:2], below[1:2], thickness[1:2]).mean[0]
    torch.testing.assert_close(thicker, alone)


@torch.no_grad()
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_midpoint_stays_within_pixels(slices: tuple[Tensor, Tensor, Tensor], sign: int) -> None:
    """Whatever an encoder makes of slices unlike those it has seen."""
    encoder = Encoder(4).double()
    assert encoder.output.bias is not None
    encoder.output.bias.fill_(sign * 1000)
    midpoint = encoder(slices[0], slices[2], THICKNESS)
    assert midpoint.mean.unique().tolist() == [sign]
    assert midpoint.log_scale.unique().tolist() == [LOG_SCALE_MAX if sign > 0 else LOG_SCALE_MIN]


@torch.no_grad()
@pytest.mark.parametrize("sign", [-1, 1])
def test_components_stay_near_the_midpoint(
    network: PixelMiner, slices: tuple[Tensor, Tensor, Tensor], sign: int
) -> None:
    network = copy.deepcopy(network)
    assert network.output.bias is not None
    network.output.bias += sign * 100
    midpoint = network.midpoint(slices[0], slices[2], THICKNESS)
    expected = midpoint.mean + sign * COMPONENT_MAX * midpoint.log_scale.exp()
    means = network(*slices, THICKNESS).means
    torch.testing.assert_close(means, expected.expand_as(means), check_dtype=False)


@torch.no_grad()
def test_log_scales_are_clamped(network: PixelMiner, slices: tuple[Tensor, Tensor, Tensor]) -> None:
    bias = network.output.bias
    assert bias is not None
    kept = bias.clone()
    bias -= 100
    assert (network(*slices, THICKNESS).log_scales == LOG_SCALE_MIN).all()
    bias += 200
    widest = network.midpoint(slices[0], slices[2], THICKNESS).log_scale + COMPONENT_LOG_SCALE_MAX
    log_scales = network(*slices, THICKNESS).log_scales
    torch.testing.assert_close(log_scales, widest.expand_as(log_scales), check_dtype=False)
    bias.copy_(kept)


@torch.no_grad()
def test_works_on_any_size_that_is_a_multiple_of_four(network: PixelMiner) -> None:
    mixture = network(*random(3, 2, 1, 8, 20), THICKNESS)
    components = len(depths_of(network)) * TINY.mixtures
    assert {p.shape for p in mixture} == {(2, components, 8, 20)}


@pytest.mark.parametrize("bits", [8, 12])
def test_likelihood_sums_to_one(bits: int) -> None:
    """In single precision, for components from the narrowest to ones wider than the range."""
    generator = torch.Generator().manual_seed(0)
    logits, means, scales = torch.rand((3, 1, 30, 1, 20), generator=generator) * 2 - 1
    levels = torch.linspace(-1, 1, 2**bits).reshape(-1, 1, 1, 1)
    mixture = Mixture(*(p.expand(2**bits, -1, -1, -1) for p in (logits, means, scales * 4 - 3)))
    total = log_probability(mixture, levels, bits).double().exp().sum(dim=0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-4)


def test_the_standard_deviation_is_that_of_the_levels() -> None:
    """For components far from the ends of the range, which take the tails."""
    generator = torch.Generator().manual_seed(0)
    logits, means, scales = torch.rand((3, 1, 30, 1, 20), generator=generator) * 2 - 1
    levels = torch.linspace(-1, 1, 2**12, dtype=torch.float64).reshape(-1, 1, 1, 1)
    mixture = Mixture(*(p.double() for p in (logits, means / 3, scales - 4)))
    every = Mixture(*(p.expand(2**12, -1, -1, -1) for p in mixture))
    probability = log_probability(every, levels, 12).exp().unsqueeze(1)
    mean = (probability * levels).sum(dim=0)
    variance = (probability * (levels - mean).square()).sum(dim=0)
    torch.testing.assert_close(standard_deviation(mixture)[0], variance.sqrt(), rtol=1e-3, atol=0)


def test_likelihood_of_an_impossible_pixel_has_a_gradient() -> None:
    means = torch.full((1, 3, 1, 1), -0.9, requires_grad=True)
    mixture = Mixture(torch.zeros(1, 3, 1, 1), means, torch.full((1, 3, 1, 1), -7.0))
    bits = bits_per_pixel(mixture, torch.full((1, 1, 1, 1), 0.9), 12)
    (gradient,) = torch.autograd.grad(bits, means)
    assert bits.isfinite()
    assert (gradient < 0).all()


def test_bits_per_pixel_of_a_known_distribution() -> None:
    wide = Mixture(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), -1.0))
    pixels = torch.zeros(1, 1, 4, 4)
    expected = -math.log2(math.tanh(math.e / 4095 / 2))
    assert float(bits_per_pixel(wide, pixels, 12)) == pytest.approx(expected, abs=1e-3)
