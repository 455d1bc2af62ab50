"""The encoder: predicts the target from both acquired slices, on all sides of a pixel.

The paper has no encoder: its network never sees both neighbours on all sides of a pixel at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from pmtool.models.hyperparameters import (
    COMPONENT_LOG_SCALE_MAX,
    COMPONENT_MAX,
    LEVELS,
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    RESIDUAL_MAX,
)
from pmtool.network.layers import Layers

MEAN_UNIT = 0.1
"""Distance of the midpoint's mean from the linear interpolation for an output of 1."""
LOG_SCALE_OFFSET = -4.0
"""The midpoint's log-scale for an output of 0, with which training starts."""
DIFFERENCE_GAIN = 16.0
"""Factor for the difference of the neighbours, which would be small as a network input."""


class Midpoint(NamedTuple):
    """What is known about the target before its first pixel: a logistic per pixel, and features.

    Attributes
    ----------
    mean, log_scale
        Mean and log-scale of the logistics, ``(N, 1, H, W)``, in units of the network's input,
        [-1, 1].
    features
        Features ``(N, C_l, H / 2^l, W / 2^l)`` for every level ``l``, with the channels ``C_l`` of
        `encoder_widths`; none without an encoder.
    """

    mean: Tensor
    log_scale: Tensor
    features: Sequence[Tensor] = ()

    def cropped(self, margin: int) -> Midpoint:
        """Return the midpoint without ``margin`` pixels on all sides."""
        features = [cropped(x, margin >> level) for level, x in enumerate(self.features)]
        return Midpoint(cropped(self.mean, margin), cropped(self.log_scale, margin), features)

    def residual(self, pixels: Tensor) -> Tensor:
        """Return pixels relative to the midpoint, in units of its scale and clamped."""
        standardised = (pixels - self.mean) * torch.exp(-self.log_scale)
        return standardised.clamp(-RESIDUAL_MAX, RESIDUAL_MAX)

    def components(self, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
        """Convert means and log-scales relative to the midpoint into units of pixels.

        Both are clamped.
        """
        means = means.clamp(-COMPONENT_MAX, COMPONENT_MAX)
        log_scales = self.log_scale + log_scales.clamp(max=COMPONENT_LOG_SCALE_MAX)
        return self.mean + torch.exp(self.log_scale) * means, log_scales.clamp(min=LOG_SCALE_MIN)


def cropped(x: Tensor, margin: int) -> Tensor:
    """Return a tensor ``(..., H, W)`` without ``margin`` pixels on all sides."""
    return x[..., margin:-margin, margin:-margin] if margin else x


def no_midpoint(above: Tensor) -> Midpoint:
    """Midpoint of mean 0 and scale 1, for a network without encoder: residuals are the pixels."""
    zero = torch.zeros_like(above)
    return Midpoint(zero, zero)


class TwoConvolutions(nn.Sequential):
    """Two 3x3 convolutions, each with an ELU: ``(N, c_in, H, W) -> (N, c_out, H, W)``."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(c_out, c_out, 3, padding=1),
            nn.ELU(),
        )


class Encoder(nn.Module):
    """A U-Net of three resolutions (Ronneberger et al. 2015) on both neighbours.

    The mean of its midpoint is the linear interpolation plus the network's output, clamped to the
    range of pixels. As the last layer starts at zero, training starts from the linear
    interpolation. Slice thickness is a further input, because two slices alone do not show it:
    less is known about what lies between thin slices than between thick ones that touch.

    Features at full resolution pass through one more convolution, which also sees both slices
    relative to the midpoint, as the stacks see the target.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [channels << level for level in range(LEVELS)]
        steps = list(pairwise(widths))
        self.down = Layers(
            TwoConvolutions(fine, coarse) for fine, coarse in [(3, widths[0]), *steps]
        )
        self.up = Layers(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in steps)
        self.join = Layers(TwoConvolutions(2 * fine, fine) for fine, _ in steps)
        self.relative = nn.Conv2d(channels + 2, 2 * channels, 3, padding=1)
        self.output = nn.Conv2d(channels, 2, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(cast(Tensor, self.output.bias))

    def forward(self, above: Tensor, below: Tensor, relative_thickness: Tensor) -> Midpoint:
        """Return the midpoint of two slices ``(N, 1, H, W)`` in [-1, 1].

        ``relative_thickness`` ``(N, 1, 1, 1)`` is that of `pmtool.geometry.thickness`; slices that
        overlap count as touching.
        """
        linear = (above + below) / 2
        thick = (2 * relative_thickness.clamp(max=1) - 1).expand_as(linear)
        x = torch.cat((linear, (above - below) * DIFFERENCE_GAIN, thick), dim=1)
        skips: list[Tensor] = []
        for layer in self.down:
            x = layer(nn.functional.avg_pool2d(x, 2) if skips else x)
            skips.append(x)
        x = skips.pop()
        features: list[Tensor] = []
        for up, join in reversed(list(zip(self.up, self.join, strict=True))):
            features.insert(0, x)
            x = join(torch.cat((skips.pop(), up(x)), dim=1))
        mean, log_scale = self.output(x).float().chunk(2, dim=1)
        log_scale = (LOG_SCALE_OFFSET + log_scale).clamp(LOG_SCALE_MIN, LOG_SCALE_MAX)
        midpoint = Midpoint((linear + MEAN_UNIT * mean).clamp(-1, 1), log_scale)
        residuals = [midpoint.residual(outer) for outer in (above, below)]
        x = nn.functional.elu(self.relative(torch.cat((x, *residuals), dim=1)))
        return midpoint._replace(features=[x, *features])
