"""Pictures of a network's results for crops whose truth is known."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pmtool.backends.torch import TorchBackend
from pmtool.images.display import grey
from pmtool.network import PixelMiner
from pmtool.pixels.levels import from_hounsfield, to_hounsfield
from pmtool.sampling.lane_cache import LaneCache
from pmtool.sampling.pairs import PairGroup, SlicePair
from pmtool.sampling.windows import Window

Slices = NDArray[np.int16]
_ZOOM, _GAP = 3, 4


def sample_crops(network: PixelMiner, crops: Slices) -> Slices:
    """Sample the middle slice of every crop ``(N, 3, H, W)``: ``(N, H, W)`` in HU."""
    count, _, height, width = crops.shape
    pairs = [SlicePair(above, below, number) for number, (above, _, below) in enumerate(crops)]
    group = PairGroup(network.hyperparameters, pairs, (height, width))
    window = Window(0, 0, height, width, 0, 0)
    cache = LaneCache(TorchBackend(network), network.hyperparameters, (height, width), count)
    cache.generate(group, [(number, window) for number in range(count)], 0, "sample")
    return np.stack(group.slices())


@torch.no_grad()
def midpoints(network: PixelMiner, crops: Slices) -> Slices:
    """Predict the middle slices by the encoder, or else by linear interpolation.

    The crops are ``(N, 3, H, W)``, the result is ``(N, H, W)``, both in HU.
    """
    pixels = torch.from_numpy(from_hounsfield(crops, network.hyperparameters))
    above, below = pixels[:, :1], pixels[:, 2:]
    linear = (above + below) / 2
    mean = network.midpoint(above, below).mean if network.hyperparameters.encoder else linear
    return to_hounsfield(mean[:, 0].numpy(), network.hyperparameters)


def picture(network: PixelMiner, crops: Slices) -> Image.Image:
    """Picture with one row per crop: above, truth, sample, midpoint."""
    columns = [crops[:, 0], crops[:, 1], sample_crops(network, crops), midpoints(network, crops)]
    rows = [[_framed(grey(panel)) for panel in row] for row in zip(*columns, strict=True)]
    return Image.fromarray(np.block(rows))


def _framed(panel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(panel.repeat(_ZOOM, 0).repeat(_ZOOM, 1), ((_GAP, 0), (_GAP, 0)))
