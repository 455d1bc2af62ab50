"""A scan whose every second slice is dropped, and the region whose texture counts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.arrays import Slice
from pmtool.errors import ContentError, GeometryError, UsageError
from pmtool.evaluation.lungs import Region, air_in_lungs, lung_region
from pmtool.images.hounsfield import to_voxels
from pmtool.images.reading import DEFAULT, ReadingOptions
from pmtool.images.volume import Volume
from pmtool.loading import load_ct
from pmtool.resampling.segmentation import load_mask

_AIR = -1000
_ROUNDING = 0.6
"""Residual, HU, that is left of a slice that was interpolated and rounded."""
_FEWEST_PIXELS = 100


class ScanSlice(NamedTuple):
    """A slice by the name of its scan and its number there."""

    scan: str
    number: int


@dataclass(frozen=True)
class ThinScan:
    """A scan, and the mask of an own region where one is given."""

    volume: Volume
    mask: Volume | None = None

    @property
    def name(self) -> str:
        """Name of the scan, from its file."""
        return Path(self.volume.name).name

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its voxels and geometry."""
        return self.volume.digest()

    @property
    def dropped(self) -> range:
        """Every second slice, those between two others that are kept."""
        return range(1, len(self.volume.slices) - 1, 2)

    @cached_property
    def kept(self) -> Volume:
        """The scan without every second slice, the last one too if it is a second one."""
        where: list[slice] = [slice(None)] * 3
        where[self.volume.axis] = slice(None, None, 2)
        return Volume(self.volume.image[tuple(where)], self.volume.axis, self.volume.name)

    @property
    def pixel(self) -> tuple[float, float]:
        """Spacing of rows and of columns, mm."""
        spacing = self.volume.image.GetSpacing()
        rows, columns = (spacing[axis] for axis in (2, 1, 0) if axis != self.volume.axis)
        return rows, columns

    def truth(self, index: int) -> Slice:
        """A slice of the scan, ``(H, W)`` HU."""
        return hounsfield(self.volume, index)

    def region(self, index: int) -> Region:
        """Where the texture of a slice counts, ``(H, W)``."""
        if self.mask is not None:
            return np.asarray(self.mask.slices[index] != 0)
        return lung_region(self._air[index], self.pixel)

    @cached_property
    def _air(self) -> Region:
        return air_in_lungs(self.volume.slices, self.pixel)

    def check_region(self) -> None:
        """Raise `ContentError` if there is no region at all."""
        if self.mask is not None:
            if not sitk.GetArrayViewFromImage(self.mask.image).any():
                raise ContentError(f"{self.mask.name} is empty; give a mask with a region")
        elif not self._air.any():
            raise ContentError(
                f"no lung (air enclosed by a body) was found in {self.volume.name}; give a region "
                "by --mask"
            )


def load_scan(path: Path, mask: Path | None = None, reading: ReadingOptions = DEFAULT) -> ThinScan:
    """A scan to evaluate with.

    Raises
    ------
    UsageError
        If ``reading`` allows uneven slices.
    InputError
        If a file cannot be read.
    GeometryError
        If it has fewer than three slices, or the mask lies on another grid.
    ContentError
        If it is not in HU, or there is neither lung nor mask.

    Warns
    -----
    UserWarning
        If slices depend on their neighbours, as in a scan that was interpolated before.
    """
    volume = load_thin(path, reading)
    scan = ThinScan(volume, None if mask is None else load_mask(mask, volume, reading))
    scan.check_region()
    return scan


def load_thin(path: Path, reading: ReadingOptions = DEFAULT) -> Volume:
    """A volume whose every second slice can be dropped; raises and warns as `load_scan`."""
    if reading.allow_uneven:
        raise UsageError("every second slice is dropped from even slices only, not uneven ones")
    volume = load_ct(path, reading)
    if len(volume.slices) < 3:
        raise GeometryError(
            f"{path} has {len(volume.slices)} slices; every second one is dropped, which takes "
            "three or more"
        )
    dependent = dependent_slices(volume)
    if dependent:
        warnings.warn(
            f"{len(dependent)} of {len(volume.slices)} slices of {path} repeat their neighbours or "
            "are linear in them: it looks interpolated already, and an evaluation on it flatters "
            "interpolation",
            stacklevel=3,
        )
    return volume


def dependent_slices(volume: Volume) -> list[int]:
    """Slices that are a linear combination of their neighbours, up to rounding.

    The least squares fit of a slice by both neighbours and a constant, over pixels that are not
    air, leaves less than 0.6 HU; real slices differ by their noise at least.
    """
    thin = volume.slices[:, ::2, ::2]
    return [i for i in range(1, len(thin) - 1) if _depends(thin[i - 1 : i + 2])]


def hounsfield(volume: Volume, index: int) -> Slice:
    """A slice ``(H, W)`` of a volume, rounded to HU."""
    values = np.asarray(volume.slices[index])
    return np.ascontiguousarray(to_voxels(values, np.dtype(np.int16)))


def _depends(three: NDArray[np.generic]) -> bool:
    inside = (np.asarray(three) > _AIR).all(axis=0)
    if np.count_nonzero(inside) < _FEWEST_PIXELS:
        return False
    before, values, after = (plane[inside].astype(np.float64) for plane in np.asarray(three))
    terms = np.stack([before, after, np.ones_like(before)], axis=1)
    fit = terms @ np.linalg.lstsq(terms, values)[0]
    return bool(np.sqrt(np.mean((values - fit) ** 2)) < _ROUNDING)
