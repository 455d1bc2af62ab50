"""Random crops of three consecutive slices (paper, section 2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.errors import InputError
from pmtool.hyperparameters import Hyperparameters
from pmtool.levels import from_hounsfield

SUFFIXES = (".nrrd", ".nii", ".nii.gz", ".mha", ".mhd")


class Crops:
    """Triplets *above, target, below* cut at random from thin-slice scans.

    A batch is a function of the seed and its number alone, so that training can stop at any step
    and go on as if it had not.

    Parameters
    ----------
    folder
        Searched for scans, in subfolders too.
    hyperparameters
        The HU window and the grey levels.
    size
        Height and width of a crop.

    Raises
    ------
    InputError
        If there is no scan, or one that cannot be read or holds no crop.
    """

    def __init__(self, folder: Path, hyperparameters: Hyperparameters, size: int = 64) -> None:
        paths = sorted(p for p in folder.rglob("*") if p.name.endswith(SUFFIXES))
        if not paths:
            raise InputError(f"no scan (*{', *'.join(SUFFIXES)}) was found in {folder}")
        self.scans = [_read(path, size) for path in paths]
        self.names = [path.name for path in paths]
        self.size = size
        self.hyperparameters = hyperparameters
        voxels = np.array([scan.size for scan in self.scans], dtype=float)
        self.shares = voxels / voxels.sum()

    def batch(self, count: int, seed: Sequence[int], *, flip: bool = True) -> NDArray[np.float32]:
        """``(count, 3, size, size)`` pixels in [-1, 1], flipped at random along every axis."""
        rng = np.random.default_rng(seed)
        crops = np.stack([self._crop(rng, flip) for _ in range(count)])
        return from_hounsfield(crops, self.hyperparameters)

    def _crop(self, rng: np.random.Generator, flip: bool) -> NDArray[np.int16]:
        scan = self.scans[rng.choice(len(self.scans), p=self.shares)]
        sizes = list(zip(scan.shape, (3, self.size, self.size), strict=True))
        corner = [int(rng.integers(whole - part + 1)) for whole, part in sizes]
        crop = scan[tuple(slice(c, c + part) for c, (_, part) in zip(corner, sizes, strict=True))]
        axes = tuple(axis for axis in range(3) if flip and rng.random() < 0.5)
        return np.flip(crop, axes)


def _read(path: Path, size: int) -> NDArray[np.int16]:
    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read: take it out of the training data") from error
    if array.ndim != 3 or len(array) < 3 or min(array.shape[1:]) < size:
        raise InputError(f"{path} is no volume of at least {size}x{size}x3 voxels")
    return array.astype(np.int16, copy=False)
