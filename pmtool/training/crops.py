"""Random crops of three consecutive slices (paper, section 2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.errors import InputError
from pmtool.hyperparameters import Hyperparameters

SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")


class Crops:
    """Triplets *above, target, below* cut at random from thin-slice scans.

    A batch is a function of the seed and its number alone, so that training can stop at any step
    and go on as if it had not.
    """

    def __init__(self, folder: Path, hyperparameters: Hyperparameters, size: int = 64) -> None:
        paths = sorted(p for p in folder.rglob("*") if p.name.endswith(SUFFIXES))
        if not paths:
            raise InputError(f"no scan (*{', *'.join(SUFFIXES)}) was found in {folder}")
        low, high = hyperparameters.hu_window
        self.scans = [_read(path).clip(low, high) for path in paths]
        self.names = [path.name for path in paths]
        self.size = size
        self.hyperparameters = hyperparameters
        voxels = np.array([scan.size for scan in self.scans], dtype=float)
        self.shares = voxels / voxels.sum()

    def batch(self, count: int, seed: Sequence[int], *, flip: bool = True) -> NDArray[np.float32]:
        """``(count, 3, size, size)`` pixels in [-1, 1]."""
        rng = np.random.default_rng(seed)
        crops = np.stack([self._crop(rng, flip) for _ in range(count)]).astype(np.float32)
        low, high = self.hyperparameters.hu_window
        levels = np.round((crops - low) * ((self.hyperparameters.levels - 1) / (high - low)))
        return np.asarray(levels * (2 / (self.hyperparameters.levels - 1)) - 1, dtype=np.float32)

    def _crop(self, rng: np.random.Generator, flip: bool) -> NDArray[np.int16]:
        scan = self.scans[rng.choice(len(self.scans), p=self.shares)]
        corner = [int(rng.integers(n - m + 1)) for n, m in zip(scan.shape, self._shape, strict=True)]
        crop = scan[tuple(slice(c, c + m) for c, m in zip(corner, self._shape, strict=True))]
        axes = tuple(axis for axis in range(3) if flip and rng.random() < 0.5)
        return np.flip(crop, axes)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size


def _read(path: Path) -> NDArray[Any]:
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array.astype(np.int16, copy=False)
