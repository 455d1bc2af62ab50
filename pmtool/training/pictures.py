"""Pictures of a network's results for crops whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pmtool.backends.torch import TorchBackend
from pmtool.images.display import grey
from pmtool.network import PixelMiner
from pmtool.pixels.levels import to_hounsfield
from pmtool.sampling.lane_cache import LaneCache
from pmtool.sampling.pairs import PairGroup, SlicePair
from pmtool.sampling.windows import Window
from pmtool.training.crops import Crop, triplets

Slices = NDArray[np.int16]
_ZOOM, _GAP = 3, 4


def sample_crops(network: PixelMiner, crops: Sequence[Crop]) -> Slices:
    """Sample the middle slice of every crop: ``(N, H, W)`` in HU."""
    count, (height, width) = len(crops), crops[0].slices.shape[1:]
    pairs = [
        SlicePair(above, below, relative, number)
        for number, ((above, _, below), relative) in enumerate(crops)
    ]
    backend, shape = TorchBackend(network), (height, width)
    group = PairGroup(network.hyperparameters, pairs, shape, backend.memory)
    window = Window(0, 0, height, width, 0, 0)
    cache = LaneCache(backend, network.hyperparameters, shape, count)
    cache.generate(group, [(number, window) for number in range(count)], 0, "sample")
    return np.stack(group.slices())


@torch.no_grad()
def midpoints(network: PixelMiner, crops: Sequence[Crop]) -> Slices:
    """Predict the middle slice of every crop by the encoder, or else by linear interpolation.

    The result is ``(N, H, W)`` in HU.
    """
    slices, relative = triplets(crops, network.hyperparameters)
    above, _, below = slices.split(1, dim=1)
    mean = (above + below) / 2
    if network.hyperparameters.encoder:
        mean = network.midpoint(above, below, relative).mean
    return to_hounsfield(mean[:, 0].numpy(), network.hyperparameters)


def picture(network: PixelMiner, crops: Sequence[Crop]) -> Image.Image:
    """Picture with one row per crop: above, truth, sample, midpoint."""
    originals = ([crop.slices[depth] for crop in crops] for depth in (0, 1))
    columns = [*originals, sample_crops(network, crops), midpoints(network, crops)]
    rows = [[_framed(grey(panel)) for panel in row] for row in zip(*columns, strict=True)]
    return Image.fromarray(np.block(rows))


def _framed(panel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(panel.repeat(_ZOOM, 0).repeat(_ZOOM, 1), ((_GAP, 0), (_GAP, 0)))
