"""A scan from which every second slice is dropped, and the region in which texture is measured."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Slice
from pmtool.errors import ContentError, GeometryError, UsageError
from pmtool.evaluation.lungs import Region, air_in_lungs, lung_region
from pmtool.evaluation.packed import PackedMask
from pmtool.evaluation.volumes import Volumes
from pmtool.geometry.grid import Grid, make_grid
from pmtool.images.hounsfield import to_voxels
from pmtool.images.made import made_text
from pmtool.images.reading import DEFAULT, ReadingOptions
from pmtool.images.volume import Volume
from pmtool.loading import load_ct
from pmtool.resampling.segmentation import load_mask
from pmtool.system.files import resolved
from pmtool.system.units import counted

_AIR = -1000
_ROUNDING = 0.6
"""Residual in HU below which a slice counts as interpolated and rounded."""
_FEWEST_PIXELS = 100


class ScanSlice(NamedTuple):
    """A slice, identified by the name of its scan and its index in it."""

    scan: str
    number: int


class ThinScan:
    """A scan, and the mask of a custom region if one is given.

    Everything but its voxels stays in memory when those of another scan are read.

    Parameters
    ----------
    name
        Name of the scan.
    volumes
        Where its volume is found by that name.
    mask
        Mask on the volume's grid; its slices are kept in little memory.

    Attributes
    ----------
    geometry
        Its first slice alone, which has the shape, the axes and the thickness of all.
    count
        Number of slices.
    mask_digest
        SHA-256 of the mask's voxels and geometry; None without a mask.
    """

    def __init__(self, name: str, volumes: Volumes, mask: Volume | None = None) -> None:
        self.name, self._volumes = name, volumes
        self.geometry, self.count = self.volume.part(slice(1)), len(self.volume.slices)
        self.mask_digest = None if mask is None else mask.digest()
        self._mask = None if mask is None else PackedMask(x != 0 for x in mask.slices)

    @property
    def digest(self) -> str:
        """SHA-256 of the scan's voxels and geometry."""
        return self._volumes.digest(self.name)

    @property
    def volume(self) -> Volume:
        """The scan with its voxels, for a short time; raises the errors of `Volumes`."""
        return self._volumes[self.name]

    @property
    def kept(self) -> Volume:
        """The scan without its second, fourth, ... slice, even if one of these is the last."""
        return self.volume.every_second

    @property
    def dropped(self) -> range:
        """Indices of the dropped slices: every second one that lies between two kept ones."""
        return range(1, self.count - 1, 2)

    @cached_property
    def grid(self) -> Grid:
        """Grid on which node ``i`` between kept slices is the scan's slice ``i``."""
        spacing = self.geometry.spacing
        return make_grid((self.count + 1) // 2, 2 * spacing, spacing)

    @property
    def pixel(self) -> tuple[float, float]:
        """Spacing of rows and of columns in mm."""
        spacing = self.geometry.image.GetSpacing()
        rows, columns = (spacing[axis] for axis in (2, 1, 0) if axis != self.geometry.axis)
        return rows, columns

    def truth(self, index: int) -> Slice:
        """Slice ``(H, W)`` of the scan in HU."""
        return hounsfield(self.volume, index)

    def region(self, index: int) -> Region:
        """Mask ``(H, W)`` of the region of a slice in which texture is measured."""
        if self._mask is not None:
            return self._mask[index]
        return lung_region(self._air[index], self.pixel)

    @cached_property
    def _air(self) -> PackedMask:
        return PackedMask(air_in_lungs(self.volume.slices, self.pixel))

    @property
    def has_region(self) -> bool:
        """Whether the mask or, without one, the lungs are in any slice."""
        return not (self._mask or self._air).is_empty


def load_scans(
    paths: Sequence[Path],
    masks: Sequence[Path | None] | None = None,
    reading: ReadingOptions = DEFAULT,
) -> list[ThinScan]:
    """Load scans for an evaluation; the voxels of the last one are in memory then.

    Parameters
    ----------
    paths
        Files or folders of the scans.
    masks
        Masks with a custom region for every scan, or None for the lungs.
    reading
        Options for reading the scans.

    Raises
    ------
    UsageError
        If a scan is given more than once, or ``reading`` allows uneven slices.
    InputError
        If a file cannot be read.
    GeometryError
        If a scan has fewer than three slices, or a mask lies on another grid.
    ContentError
        If a scan is not in HU, or there is neither lung nor mask.

    Warns
    -----
    UserWarning
        If slices were made by pmtool, or depend on their neighbours, as in a scan that was already
        interpolated.
    """
    volumes = _thin_volumes(paths, reading)
    pairs = zip(volumes.names, masks or (None,) * len(paths), strict=True)
    return [_with_region(name, volumes, mask, reading) for name, mask in pairs]


def _with_region(
    name: str, volumes: Volumes, path: Path | None, reading: ReadingOptions
) -> ThinScan:
    mask = None if path is None else load_mask(path, volumes[name], reading)
    scan = ThinScan(name, volumes, mask)
    if scan.has_region:
        return scan
    if path is not None:
        raise ContentError(f"{path} is empty; give a mask with a region")
    raise ContentError(
        f"no lung (air enclosed by a body) was found in {scan.geometry.name}; give a region by "
        "--mask"
    )


def thin_scans(paths: Sequence[Path], reading: ReadingOptions = DEFAULT) -> list[ThinScan]:
    """Load scans whose regions do not matter; raises and warns like `load_scans`."""
    volumes = _thin_volumes(paths, reading)
    return [ThinScan(name, volumes) for name in volumes.names]


def _thin_volumes(paths: Sequence[Path], reading: ReadingOptions) -> Volumes:
    """The scans' volumes, by distinct names; none is read yet."""
    names = distinct_names(paths)
    if len(paths) > 1:  # which a single UID would not fit
        reading = reading.without_advice("series_uid")
    return Volumes({x: partial(_load_thin, y, reading) for x, y in zip(names, paths, strict=True)})


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Names of scans, with as many of the folders above their files as make them distinct.

    Links keep their own names.

    Raises
    ------
    UsageError
        If a scan is given more than once, whether by its own name or by links.
    """
    files = [resolved(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        if files.count(file) > 1:
            raise UsageError(f"{path} is given more than once; give each scan once")
    parts = [Path(os.path.abspath(path)).parts for path in paths]  # noqa: PTH100
    lengths = range(1, max(map(len, parts)) + 1)
    names = (["/".join(x[-length:]) for x in parts] for length in lengths)
    return next(distinct for distinct in names if len(set(distinct)) == len(distinct))


def _load_thin(path: Path, reading: ReadingOptions) -> Volume:
    """Load a volume whose every second slice can be dropped; raises and warns like `load_scans`."""
    if reading.allow_uneven:
        raise UsageError(f"{path} is evaluated by even slices only; leave --allow-uneven out")
    volume = load_ct(path, reading.without_advice("allow_uneven"))
    if len(volume.slices) < 3:
        raise GeometryError(
            f"{path} has {counted(len(volume.slices), 'slice')}; every second one is dropped, "
            "which takes three or more"
        )
    if (text := made_text(volume, "evaluate on the original series")) is not None:
        warnings.warn(text, stacklevel=3)
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
