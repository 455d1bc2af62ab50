"""Random crops of three slices (paper, section 2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pmtool.arrays import Float32s
from pmtool.geometry.thickness import relative_thickness
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.pixels.levels import from_hounsfield
from pmtool.training.augment import CROP_MARGIN
from pmtool.training.cache import BLOCK, CachedScan
from pmtool.training.selection import most_averaged, strides
from pmtool.training.settings import CropSettings, Settings

Bools = NDArray[np.bool_]


class Crop(NamedTuple):
    """A crop of three slices *above, target, below*.

    Attributes
    ----------
    slices
        Pixels ``(3, size, size)`` in HU, within the network's window.
    relative_thickness
        Thickness as the network takes it: `pmtool.geometry.thickness.relative_thickness`.
    """

    slices: NDArray[np.int16]
    relative_thickness: float


class Triplets(NamedTuple):
    """Crops as the network takes them: ``(N, 3, size, size)`` in [-1, 1], and ``(N, 1, 1, 1)``."""

    slices: Tensor
    relative_thickness: Tensor


class Crops(Dataset[Triplets]):
    """Triplets *above, target, below*: random, flipped and augmented, or fixed and as acquired.

    A crop depends only on the seed, its step and its number in the step, not on the process that
    draws it or on earlier crops.

    Parameters
    ----------
    scans
        Scans to draw from, each in proportion to its number of triplets.
    settings
        Settings of the run.
    number
        Number of crops in a step.
    part
        Rank and number of the processes that share every step's crops.
    fixed
        Whether to draw for validation: next neighbours, without flips and augmentation.
    """

    def __init__(
        self,
        scans: Sequence[CachedScan],
        settings: Settings,
        number: int,
        part: tuple[int, int] = (0, 1),
        *,
        fixed: bool = False,
    ) -> None:
        self.scans, self.settings, self.fixed = scans, settings, fixed
        rank, processes = part
        self.numbers = range(rank, number, processes)
        triplets = np.array([scan.shape[0] - 2 for scan in scans], dtype=float)
        self.shares = triplets / triplets.sum()

    def __getitem__(self, step: int) -> Triplets:
        """Return this process's crops of a step."""
        crops = [self.crop(step, number) for number in self.numbers]
        return triplets(crops, self.settings.network)

    def crop(self, step: int, number: int) -> Crop:
        """Return one crop."""
        rng = np.random.default_rng((self.settings.seed, int(self.fixed), step, number))
        scan = self.scans[rng.choice(len(self.scans), p=self.shares)]
        slices, relative = self._triplet(scan, rng)
        low, high = self.settings.network.hu_window
        slices = slices.clip(low, high)
        if self.fixed:
            slices = slices[:, CROP_MARGIN:-CROP_MARGIN, CROP_MARGIN:-CROP_MARGIN]
        else:
            slices = np.flip(slices, tuple(axis for axis in range(3) if rng.random() < 0.5))
            changed = self.settings.augmentation(slices, self.settings.crops.size, rng)
            slices = np.rint(changed).clip(low, high)
        return Crop(slices.astype(np.int16), relative)

    def _triplet(self, scan: CachedScan, rng: np.random.Generator) -> tuple[Float32s, float]:
        """Draw a crop with `CROP_MARGIN` around it; beyond the border, the last pixel repeats.

        The second result is the relative thickness, see `Crop`.
        """
        settings = self.settings.crops
        stride = 1 if self.fixed else _stride(scan, settings, rng)
        averaged = 1 if self.fixed else _averaged(scan, stride, settings, rng)
        middle, top, left = draw_place(scan, stride, averaged, settings, rng)
        _, height, width = scan.shape
        around = np.arange(-CROP_MARGIN, settings.size + CROP_MARGIN)
        rows = (top + around).clip(0, height - 1)
        columns = (left + around).clip(0, width - 1)
        numbers = middle + stride * np.arange(-1, 2)[:, None] + np.arange(averaged)
        thin = scan.voxels[np.ix_(numbers.ravel(), rows, columns)]
        parts = thin.reshape(3, averaged, len(rows), len(columns))
        relative = relative_thickness(scan.thickness_of_mean(averaged), stride * scan.spacing)
        return np.asarray(parts.mean(axis=1), np.float32), relative


def triplets(crops: Sequence[Crop], hyperparameters: Hyperparameters) -> Triplets:
    """Convert crops to what a network takes."""
    slices = from_hounsfield(np.stack([crop.slices for crop in crops]), hyperparameters)
    relative = torch.tensor([crop.relative_thickness for crop in crops], dtype=torch.float32)
    return Triplets(torch.from_numpy(slices), relative.view(-1, 1, 1, 1))


def draw_place(
    scan: CachedScan,
    stride: int,
    averaged: int,
    settings: CropSettings,
    rng: np.random.Generator,
) -> tuple[int, int, int]:
    """Draw first slice, row and column of a target that shows enough of the body.

    Every slice is the first of ``averaged`` ones. All such places are equally likely, except that
    the share of body is known only by blocks. In a scan without any such place, all places are
    equally likely.
    """
    size, share = settings.size, settings.body_share
    ends = _places(scan, size, share)
    first, last = stride, scan.shape[0] - stride - (averaged - 1)
    if ends[first] == ends[last]:
        return draw_place(scan, stride, averaged, replace(settings, body_share=0), rng)
    number = int(rng.integers(ends[first], ends[last]))
    middle = int(np.searchsorted(ends, number, side="right")) - 1
    rows, columns = np.nonzero(_enough_body(scan.body[middle], size, share))
    place = number - ends[middle]
    corner = BLOCK * np.array((rows[place], columns[place])) + rng.integers(BLOCK, size=2)
    top, left = (corner - BLOCK // 2).clip(0, np.array(scan.shape[1:]) - size).tolist()
    return middle, top, left


@cache
def _places(scan: CachedScan, size: int, share: float) -> NDArray[np.int64]:
    """Number of places before every slice, and in all slices, ``(slices + 1,)``."""
    counts = [np.count_nonzero(_enough_body(blocks, size, share)) for blocks in scan.body]
    return np.cumsum([0, *counts])


def _enough_body(blocks: NDArray[np.uint8], size: int, share: float) -> Bools:
    """Mask of the blocks where a crop can start and show enough of the body."""
    width = max(size // BLOCK, 1)
    windows = np.lib.stride_tricks.sliding_window_view(blocks, (width, width))
    return np.asarray(windows.mean(axis=(2, 3)) >= 255 * share)


def _stride(scan: CachedScan, settings: CropSettings, rng: np.random.Generator) -> int:
    possible = strides(scan, settings)
    shares = np.array([settings.strides[stride - 1] for stride in possible])
    return int(rng.choice(possible, p=shares / shares.sum()))


def _averaged(
    scan: CachedScan, stride: int, settings: CropSettings, rng: np.random.Generator
) -> int:
    """Draw how many adjacent slices are averaged into one."""
    most = most_averaged(scan, stride)
    if not settings.thick or most == 1 or rng.random() >= settings.thick:
        return 1
    return int(rng.integers(2, most, endpoint=True))
