"""A scan from which every second slice is dropped, and the region in which texture is measured."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.arrays import Slice
from pmtool.errors import ContentError, GeometryError, UsageError
from pmtool.evaluation.lungs import Region, air_in_lungs, lung_region
from pmtool.geometry.grid import Grid, make_grid
from pmtool.images.hounsfield import to_voxels
from pmtool.images.reading import DEFAULT, ReadingOptions
from pmtool.images.volume import Volume
from pmtool.loading import load_ct
from pmtool.resampling.segmentation import load_mask
from pmtool.system.units import counted

_AIR = -1000
_ROUNDING = 0.6
"""Residual in HU below which a slice counts as interpolated and rounded."""
_FEWEST_PIXELS = 100


class ScanSlice(NamedTuple):
    """A slice, identified by the name of its scan and its index in it."""

    scan: str
    number: int


@dataclass(frozen=True)
class ThinScan:
    """A scan, and the mask of a custom region if one is given.

    Attributes
    ----------
    folders
        Number of folders above the scan that its name includes, see `distinctly_named`.
    """

    volume: Volume
    mask: Volume | None = None
    folders: int = 0

    @cached_property
    def name(self) -> str:
        """Name of the scan, from its file or folder and the folders above."""
        above = Path(self.volume.name).resolve().parent.parts
        first = max(len(above) - self.folders, 0)
        return "/".join([*above[first:], self.volume.file_name])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the scan's voxels and geometry."""
        return self.volume.digest()

    @cached_property
    def mask_digest(self) -> str | None:
        """SHA-256 of the mask's voxels and geometry; None without a mask."""
        return None if self.mask is None else self.mask.digest()

    @property
    def dropped(self) -> range:
        """Indices of the dropped slices: every second one that lies between two kept ones."""
        return range(1, len(self.volume.slices) - 1, 2)

    @cached_property
    def kept(self) -> Volume:
        """The scan without its second, fourth, ... slice, even if one of these is the last."""
        where: list[slice] = [slice(None)] * 3
        where[self.volume.axis] = slice(None, None, 2)
        image, thickness = self.volume.image[tuple(where)], self.volume.thickness
        return Volume(image, self.volume.axis, self.volume.name, known_thickness=thickness)

    @cached_property
    def grid(self) -> Grid:
        """Grid on which node ``i`` between kept slices is the scan's slice ``i``."""
        return make_grid(len(self.kept.slices), self.kept.spacing, self.kept.spacing / 2)

    @property
    def pixel(self) -> tuple[float, float]:
        """Spacing of rows and of columns in mm."""
        spacing = self.volume.image.GetSpacing()
        rows, columns = (spacing[axis] for axis in (2, 1, 0) if axis != self.volume.axis)
        return rows, columns

    def truth(self, index: int) -> Slice:
        """Slice ``(H, W)`` of the scan in HU."""
        return hounsfield(self.volume, index)

    def region(self, index: int) -> Region:
        """Mask ``(H, W)`` of the region of a slice in which texture is measured."""
        if self.mask is not None:
            return np.asarray(self.mask.slices[index] != 0)
        return lung_region(self._air[index], self.pixel)

    @cached_property
    def _air(self) -> Region:
        return air_in_lungs(self.volume.slices, self.pixel)

    def check_region(self) -> None:
        """Raise `ContentError` if no slice of the scan has a region."""
        if self.mask is not None:
            if not sitk.GetArrayViewFromImage(self.mask.image).any():
                raise ContentError(f"{self.mask.name} is empty; give a mask with a region")
        elif not self._air.any():
            raise ContentError(
                f"no lung (air enclosed by a body) was found in {self.volume.name}; give a region "
                "by --mask"
            )


def distinctly_named(scans: Sequence[ThinScan]) -> list[ThinScan]:
    """Give scans distinct names, with as many of the folders above them as needed.

    Raises
    ------
    UsageError
        If a scan is given more than once.
    """
    deepest = max(len(Path(scan.volume.name).resolve().parts) for scan in scans)
    for folders in range(deepest):
        renamed = [replace(scan, folders=folders) for scan in scans] if folders else list(scans)
        if len({scan.name for scan in renamed}) == len(renamed):
            return renamed
    names = Counter(scan.volume.name for scan in scans)
    raise UsageError(f"{names.most_common(1)[0][0]} is given more than once; give each scan once")


def load_scan(path: Path, mask: Path | None = None, reading: ReadingOptions = DEFAULT) -> ThinScan:
    """Load a scan for an evaluation.

    Raises
    ------
    UsageError
        If ``reading`` allows uneven slices.
    InputError
        If a file cannot be read.
    GeometryError
        If the scan has fewer than three slices, or the mask lies on another grid.
    ContentError
        If the scan is not in HU, or there is neither lung nor mask.

    Warns
    -----
    UserWarning
        If slices depend on their neighbours, as in a scan that was already interpolated.
    """
    volume = load_thin(path, reading)
    scan = ThinScan(volume, None if mask is None else load_mask(mask, volume, reading.allow_large))
    scan.check_region()
    return scan


def load_thin(path: Path, reading: ReadingOptions = DEFAULT) -> Volume:
    """Load a volume whose every second slice can be dropped; raises and warns like `load_scan`."""
    if reading.allow_uneven:
        raise UsageError(f"{path} is evaluated by even slices only; leave --allow-uneven out")
    volume = load_ct(path, reading)
    if len(volume.slices) < 3:
        raise GeometryError(
            f"{path} has {counted(len(volume.slices), 'slice')}; every second one is dropped, "
            "which takes three or more"
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
    """Indices of slices that are a linear combination of their neighbours, up to rounding.

    For these, the least squares fit of the slice by both neighbours and a constant, over pixels
    that are not air, leaves a residual of less than 0.6 HU (root mean square). Real slices differ
    at least by their noise.
    """
    thin = volume.slices[:, ::2, ::2]
    return [i for i in range(1, len(thin) - 1) if _depends(thin[i - 1 : i + 2])]


def hounsfield(volume: Volume, index: int) -> Slice:
    """Slice ``(H, W)`` of a volume, rounded to whole HU."""
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
