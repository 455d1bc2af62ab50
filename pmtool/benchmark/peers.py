"""Other samplers in PyTorch, with which `pmtool bench --peers` compares the cached one.

They are written plainly from the paper, independently of pmtool's samplers. They thus confirm which
pixels follow from a network and uniform numbers, and show how long it takes to generate them
without pmtool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pmtool.benchmark.fast_pixelcnn import FastPixelCNN
from pmtool.benchmark.timing import seconds_of
from pmtool.network import Mixture, PixelMiner

Forward = Callable[[Tensor, Tensor, Tensor, Tensor], Mixture]


class Windows(NamedTuple):
    """N windows whose first rows are known.

    Attributes
    ----------
    first
        Index of the first row to generate.
    above, below
        Neighbours ``(N, 1, H + 2 margin, W + 2 margin)`` in [-1, 1].
    relative_thickness
        See `Encoder.forward`, ``(N, 1, 1, 1)``.
    known
        Known pixels ``(N, 1, H, W)`` in [-1, 1], zero where unknown.
    uniforms
        Uniform numbers ``(N, H, W)`` in (0, 1).
    """

    first: int
    above: Tensor
    below: Tensor
    relative_thickness: Tensor
    known: Tensor
    uniforms: Tensor


class PeerRun(NamedTuple):
    """Pixels that a peer generated, and how long it took.

    Attributes
    ----------
    pixels
        Windows ``(N, 1, H, W)`` in [-1, 1].
    start
        Seconds before the first pixel: compilation, or filling the caches.
    seconds
        Seconds for all pixels.
    """

    pixels: Tensor
    start: float
    seconds: float


@torch.inference_mode()
def generate_naive(forward: Forward, windows: Windows, rows: int, bits: int) -> PeerRun:
    """Generate some rows by one forward pass per pixel.

    A first pass, which may compile, is timed separately.
    """
    device = str(windows.known.device)
    target, columns = windows.known.clone(), windows.known.shape[-1]

    def one_pass() -> Mixture:
        return forward(windows.above, target, windows.below, windows.relative_thickness)

    def generate() -> None:
        for row in range(windows.first, windows.first + rows):
            for column in range(columns):
                pixel = Mixture(*(x[:, :, row, column] for x in one_pass()))
                target[:, 0, row, column] = draw(pixel, windows.uniforms[:, row, column], bits)

    start = seconds_of(one_pass, device)
    return PeerRun(target, start, seconds_of(generate, device))


@torch.inference_mode()
def generate_with_caches(network: PixelMiner, windows: Windows, rows: int, bits: int) -> PeerRun:
    """Generate some rows by `FastPixelCNN`."""
    device = str(windows.known.device)
    target, columns = windows.known.clone(), windows.known.shape[-1]
    sampler = FastPixelCNN(network)
    start = seconds_of(
        lambda: sampler.prefill(windows.above, target, windows.below, windows.relative_thickness),
        device,
    )

    def generate() -> None:
        for row in range(windows.first, windows.first + rows):
            sampler.start_row(row)
            for column in range(columns):
                mixture = Mixture(*(x[..., 0, 0] for x in sampler.mixture(row, column)))
                pixels = draw(mixture, windows.uniforms[:, row, column], bits)
                sampler.give(row, column, pixels)
                target[:, 0, row, column] = pixels

    return PeerRun(target, start, seconds_of(generate, device))


def draw(mixture: Mixture, uniforms: Tensor, bits: int) -> Tensor:
    """Draw pixels: the lowest levels whose cumulative probability reaches a uniform number.

    Parameters
    ----------
    mixture
        Mixtures, tensors ``(N, components)``.
    uniforms
        Uniform numbers ``(N,)`` in (0, 1).
    bits
        Bits of the grey levels.

    Returns
    -------
    Tensor
        Pixels ``(N,)`` in [-1, 1].
    """
    weights, means = mixture.logits.double().softmax(dim=1), mixture.means.double()
    rate = torch.exp(-mixture.log_scales.double())
    unit, level = 2 / ((1 << bits) - 1), torch.zeros_like(weights[:, 0])
    for step in (1 << bit for bit in reversed(range(bits))):
        edge = (level + step - 0.5) * unit - 1  # the upper edge of the level before
        reached = (weights * torch.sigmoid((edge[:, None] - means) * rate)).sum(dim=1)
        level += step * (reached < uniforms)
    return (level * unit - 1).to(mixture.means.dtype)
