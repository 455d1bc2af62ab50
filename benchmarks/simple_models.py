"""Simple models of a slice between two others, to compare with a network's likelihood."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pmtool.network import Mixture, bits_per_pixel

BINS = 64
COMPONENTS, WIDTH = 10, 64
LEARNING_RATE, BATCH = 1e-2, 8

Predictor = Callable[[Tensor, Tensor, Tensor], Mixture]
"""Predicts the mixtures of a target's pixels from above, target and below.

The slices are ``(N, 1, H, W)`` in [-1, 1].
"""


class Logistic(nn.Module):
    """A logistic around the linear interpolation; its scale depends on the neighbours' contrast.

    It has one scale for each of up to `BINS` ranges of contrast, which are equally frequent in the
    crops.
    """

    def __init__(self, contrast: Callable[[Tensor, Tensor], Tensor], crops: Tensor) -> None:
        super().__init__()
        self.contrast = contrast
        values = contrast(crops[:, :1], crops[:, 2:]).numpy()
        limits = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
        self.limits = torch.from_numpy(limits.astype(np.float32))
        self.log_scales = nn.Parameter(torch.full((len(limits) + 1,), -4.0))

    def forward(self, above: Tensor, target: Tensor, below: Tensor) -> Mixture:
        """Return one component per pixel; the target is not used."""
        mean = (above + below) / 2
        contrast = torch.bucketize(self.contrast(above, below), self.limits)
        return Mixture(torch.zeros_like(mean), mean, self.log_scales[contrast])


class PerPixel(nn.Module):
    """A mixture that sees the pixel's two neighbours and nothing around them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, WIDTH, 1),
            nn.ELU(),
            nn.Conv2d(WIDTH, WIDTH, 1),
            nn.ELU(),
            nn.Conv2d(WIDTH, 3 * COMPONENTS, 1),
        )

    def forward(self, above: Tensor, target: Tensor, below: Tensor) -> Mixture:
        """Return `COMPONENTS` components per pixel; the target is not used."""
        linear = (above + below) / 2
        x = self.layers(torch.cat((linear, 16 * (above - below)), dim=1))
        logits, means, log_scales = x.chunk(3, dim=1)
        return Mixture(logits, linear + 0.1 * means, log_scales - 4)


def no_contrast(above: Tensor, below: Tensor) -> Tensor:
    """Contrast of zero everywhere, which gives one global scale."""
    return torch.zeros_like(above)


def pixel_contrast(above: Tensor, below: Tensor) -> Tensor:
    """Absolute difference of the neighbours, pixel by pixel."""
    return (above - below).abs()


def local_contrast(above: Tensor, below: Tensor) -> Tensor:
    """Mean absolute difference of the neighbours over the 5x5 pixels around each pixel."""
    padded = F.pad(pixel_contrast(above, below), (2, 2, 2, 2), mode="replicate")
    return F.avg_pool2d(padded, 5, stride=1)


def fitted_models(crops: Tensor, bits: int, steps: int) -> dict[str, Predictor]:
    """Fit all simple models to crops ``(N, 3, H, W)`` in [-1, 1]: above, target, below."""
    torch.manual_seed(0)
    logistics = {
        "global_scale": Logistic(no_contrast, crops),
        "pixel_contrast": Logistic(pixel_contrast, crops),
        "local_contrast": Logistic(local_contrast, crops),
    }
    for model in logistics.values():
        fit(model, crops, bits, steps)
    per_pixel = PerPixel()
    fit(per_pixel, shuffled(crops), bits, steps)
    return {**logistics, "per_pixel_mlp": per_pixel}


def shuffled(crops: Tensor) -> Tensor:
    """Crops of half the size with pixels from all crops, so that a batch shows the full variety."""
    count, depths, height, width = crops.shape
    pixels = crops.transpose(0, 1).flatten(1)[:, torch.randperm(count * height * width)]
    return pixels.reshape(depths, 4 * count, height // 2, width // 2).transpose(0, 1)


def fit(model: Logistic | PerPixel, crops: Tensor, bits: int, steps: int) -> None:
    """Maximise a model's likelihood with Adam and a learning rate that falls to zero."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for _ in range(steps):
        batch = crops[torch.randint(len(crops), (BATCH,), generator=generator)]
        above, target, below = batch.split(1, dim=1)
        loss = bits_per_pixel(model(above, target, below), target, bits)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
