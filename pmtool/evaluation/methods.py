"""Methods to regenerate dropped slices: classical interpolation, PixelMiner, other tools' files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk

from pmtool.arrays import Slice
from pmtool.errors import GeometryError
from pmtool.evaluation.scan import ThinScan, hounsfield
from pmtool.evaluation.scoring import REFERENCE
from pmtool.evaluation.volumes import Volumes
from pmtool.geometry.interpolation import itk_weights
from pmtool.images.hounsfield import to_voxels
from pmtool.images.reading import DEFAULT, ReadingOptions
from pmtool.images.turning import turned
from pmtool.images.volume import Volume
from pmtool.loading import load_ct
from pmtool.resampling.assembly import DyadicStack
from pmtool.resampling.journal import Journal
from pmtool.resampling.synthesis import Job, generate
from pmtool.sampling.sampler import Sampler
from pmtool.system.hashes import json_hash
from pmtool.system.stages import Progress, Tell, progress_of
from pmtool.system.versions import own_version

CLASSICAL = {
    "linear": sitk.sitkLinear,
    "nearest": sitk.sitkNearestNeighbor,
    "bspline": sitk.sitkBSpline,
    "windowed_sinc": sitk.sitkCosineWindowedSinc,
}
"""Interpolators of SimpleITK; the sinc has a cosine window of radius 5, as in the authors' code."""
PIXELMINER = "pixelminer"

Maker = Callable[[int], Slice]
"""Makes the slice ``(H, W)`` in HU at an index of the scan; keeps no volume in memory."""


class Method(Protocol):
    """A method to regenerate dropped slices."""

    @property
    def name(self) -> str: ...
    def identity(self, scan: ThinScan) -> dict[str, Any]:
        """Everything but the scan's voxels that determines the slices, as plain JSON values."""

    def maker(self, scan: ThinScan, indices: Sequence[int], progress: Progress) -> Maker:
        """Do the time-consuming work for these slices, and return what makes each slice.

        ``progress`` is called with the number of slices done.
        """


@dataclass(frozen=True)
class Classical:
    """Interpolation along z by SimpleITK, in float, rounded to the nearest HU."""

    name: str

    def identity(self, scan: ThinScan) -> dict[str, Any]:
        return {"interpolator": self.name, "SimpleITK": sitk.Version.VersionString()}

    def maker(self, scan: ThinScan, indices: Sequence[int], progress: Progress) -> Maker:
        count = (scan.count + 1) // 2
        weights = itk_weights(CLASSICAL[self.name], count, 0.5, count - 1)

        def make(index: int) -> Slice:
            kept, shares = scan.volume.slices[::2], weights[index // 2]
            (used,) = np.nonzero(shares)
            parts = (shares[node] * kept[node].astype(np.float64) for node in used)
            return to_voxels(sum(parts, np.zeros(kept.shape[1:])), np.dtype(np.int16))

        return make


@dataclass(frozen=True)
class External:
    """Slices from another tool: one volume per scan, by the scan's name, with all its slices."""

    name: str
    volumes: Volumes

    def identity(self, scan: ThinScan) -> dict[str, Any]:
        return {"voxels": self.volumes.digest(scan.name)}

    def maker(self, scan: ThinScan, indices: Sequence[int], progress: Progress) -> Maker:
        return lambda index: hounsfield(self.volumes[scan.name], index)


def external(
    name: str, scans: Sequence[ThinScan], paths: Sequence[Path], reading: ReadingOptions = DEFAULT
) -> External:
    """Another tool's volumes, one per scan, all of them checked; raises as `load_external`."""
    pairs = zip(scans, paths, strict=True)
    volumes = Volumes({s.name: partial(load_external, path, s, reading) for s, path in pairs})
    for scan in scans:
        volumes.digest(scan.name)
    return External(name, volumes)


def load_external(path: Path, scan: ThinScan, reading: ReadingOptions = DEFAULT) -> Volume:
    """Load another tool's volume in HU, which must lie on the scan's grid.

    Axes in another order or with other signs, as from dcm2niix, are turned to the scan's. The
    volume may lack the last slice if no kept slice follows it.

    Parameters
    ----------
    path
        File, folder or zip of the volume.
    scan
        The scan; once turned, the volume has the same through-plane axis.
    reading
        Options with which the scan was read.

    Raises
    ------
    InputError
        If the file cannot be read.
    MemoryBudgetError
        If there are too many voxels.
    GeometryError
        If the volume lies on another grid.
    ContentError
        If it is not in HU.
    """
    reference = scan.geometry
    image = turned(load_ct(path, reading.for_others).image, reference.image)
    up_to_the_last_kept = scan.count - 1 + scan.count % 2
    different = reference.grid_differences(image, [up_to_the_last_kept, scan.count])
    if different:
        raise GeometryError(
            f"{path} lies on another grid than {reference.name}, of other "
            f"{' and '.join(different)}; give a volume of its slices"
        )
    return Volume(image, reference.axis, str(path))


@dataclass(frozen=True)
class Sampled:
    """A model, applied as by `pmtool resample`; slices are stored in a folder as they are made."""

    name: str
    sampler: Sampler
    folder: Path

    def identity(self, scan: ThinScan) -> dict[str, Any]:
        return {
            "pmtool": own_version(),
            "model_name": self.sampler.bundle.manifest.name,
            "thickness": scan.geometry.thickness,
            **self.sampler.identity(self.sampler.plan(scan.geometry.shape, 1)),
        }

    def maker(self, scan: ThinScan, indices: Sequence[int], progress: Progress) -> Maker:
        key = {"scan": scan.digest, **self.identity(scan)}
        name = json_hash(key)[:16]
        journal = Journal.open(self.folder / f"slices-{name}", key, resume=True, discard=False)
        hu_window = self.sampler.bundle.hyperparameters.hu_window

        def completed(wanted: Sequence[int], progress: Progress | None = None) -> DyadicStack:
            stack = DyadicStack(scan.kept, scan.grid, journal, hu_window)
            jobs = [Job(i, 0) for i in wanted if stack.key(i, 0) not in journal]
            generate(stack, self.sampler, jobs, progress)
            return stack

        if indices:  # otherwise the scan would be read in vain
            completed(indices, progress)

        def make(index: int) -> Slice:
            rendered = completed([index]).render(scan.grid.slices[index])
            return np.asarray(to_voxels(rendered, np.dtype(np.int16)))

        return make


def makers(
    scan: ThinScan, work: Iterable[tuple[Method, Sequence[int]]], tell: Tell
) -> dict[str, Maker]:
    """Let every method do its work for the given slices of a scan.

    Returns
    -------
    dict
        A maker for every method, by name, and one for the truth, named `REFERENCE`.
    """
    by_name: dict[str, Maker] = {REFERENCE: scan.truth}
    for method, indices in work:
        progress = progress_of(tell, f"{scan.name}: {method.name}", len(indices))
        by_name[method.name] = method.maker(scan, indices, progress)
    return by_name


def described(method: Method, scan: ThinScan) -> dict[str, Any]:
    """Scan, name and identity of a method, and the device of a model, as plain JSON values."""
    device = {"device": method.sampler.device} if isinstance(method, Sampled) else {}
    return {"scan": scan.name, "name": method.name, **method.identity(scan), **device}
