"""Finding scans below folders, and reading them: image files, and folders of DICOM files.

A *source* is read, cached and checked for changes as a whole: it is one image file, or one folder
of DICOM files with all its series. A series spread over several folders is therefore skipped, not
joined as by `pmtool.cohort.search`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pmtool.dicom.files import Contents, is_dicom, not_there, refuse
from pmtool.dicom.load import read_series
from pmtool.dicom.series import find_series
from pmtool.errors import (
    ContentError,
    GeometryError,
    InputError,
    MemoryBudgetError,
    PmtoolError,
)
from pmtool.images.headers import voxel_files
from pmtool.images.hounsfield import check_hounsfield, for_network
from pmtool.images.made import made_text
from pmtool.images.names import image_stem
from pmtool.images.reading import DEFAULT
from pmtool.images.volume import Volume
from pmtool.loading import load_volume
from pmtool.system.files import resolved, walk

BODY_HU = -950
"""HU that separates the body from the air around it; lung is denser."""
_RANGE = (-1024, 2**15 - 1)
_READING = DEFAULT.without_advice("allow_uneven", "assume_hu")


@dataclass(frozen=True)
class Source:
    """An image file, or a folder of DICOM files.

    Attributes
    ----------
    path
        Path of the file or the folder.
    patient
        Name of the first folder below the one that was searched. For a source directly in
        that one, it is the image file's name without its suffix, or the name of the folder of
        DICOM files. DICOM files that name their patient take precedence.
    """

    path: Path
    patient: str

    def files(self) -> list[Path]:
        """All files and broken links that may belong to the source."""
        if self.path.is_dir():
            contents = _contents(self.path)
            return [*contents.others, *contents.broken]
        return [self.path, *voxel_files([self.path])]

    def fingerprint(self) -> list[list[str | int]]:
        """Name, size and modification time of every file, which show whether a source changed.

        For a broken link, they are those of the link itself.
        """
        stats = [(file.name, file.stat(follow_symlinks=file.exists())) for file in self.files()]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


@dataclass(frozen=True)
class ReadScan:
    """A CT that was read.

    Attributes
    ----------
    name
        Name of its source, with the series if there are several.
    patient
        Patient shown.
    spacing, thickness
        Those of `pmtool.images.volume.Volume`, mm.
    voxels
        Voxels ``(slices, H, W)`` in HU, at least -1024: padding becomes air.
    series
        UID of the DICOM series, empty for an image file.
    """

    name: str
    patient: str
    spacing: float
    thickness: float
    voxels: NDArray[np.int16]
    series: str = ""


def find_sources(folders: Iterable[Path]) -> list[Source]:
    """Find all sources below the folders, in order of their paths, each once.

    Raises
    ------
    InputError
        If one of the paths is not a folder, or a folder below it cannot be read.
    """
    sources: dict[Path, Source] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder: give the folders that hold the scans")
        for source in _below(resolved(folder)):
            sources.setdefault(source.path, source)
    return [sources[path] for path in sorted(sources)]


def read_source(source: Source) -> Iterator[ReadScan | PmtoolError]:
    """Yield the CTs of a source one by one and, for what cannot be used, an error that says why.

    Raises
    ------
    ContentError
        If a DICOM file is an image of another modality.
    InputError
        If a file of the folder cannot be opened.
    PmtoolError
        If something other than the source is at fault, such as a disk without room for temporary
        files.
    """
    if not source.path.is_dir():
        yield _read(partial(load_volume, source.path, _READING), source.patient)
        return
    contents = _contents(source.path)
    if contents.broken:
        yield not_there(contents.broken[0])
        return
    dicom_files = find_series(filter(is_dicom, contents.others))
    if dicom_files.others:
        modality, file = next(iter(dicom_files.others.items()))
        raise ContentError(f"{file} is of modality {modality}, not CT: move it out of the data")
    yield from dicom_files.damaged
    for series in dicom_files.series:
        name = str(source.path) + (f", series {series.uid}" if len(dicom_files.series) > 1 else "")
        read = partial(read_series, series, name, _READING)
        yield _read(read, series.patient or source.patient, series.uid)


def _read(read: Callable[[], Volume], patient: str, series: str = "") -> ReadScan | PmtoolError:
    try:
        volume = read()
        check_hounsfield(volume, _READING)
        if (text := made_text(volume, "train on the original series")) is not None:
            warnings.warn(text, stacklevel=2)
        voxels = np.stack([for_network(s, _RANGE) for s in volume.slices])
        if len(voxels) < 3 or voxels.max() <= BODY_HU:
            raise ContentError(f"{volume.name} shows no body, or has fewer than three slices")
    except (InputError, GeometryError, ContentError, MemoryBudgetError) as error:
        return error
    return ReadScan(volume.name, patient, volume.spacing, volume.thickness, voxels, series)


def _below(folder: Path) -> Iterator[Source]:
    for place, _, names in walk(folder, refuse):
        below = place.relative_to(folder).parts
        contents = Contents.of(place, names)
        for path in contents.images:
            yield Source(path, below[0] if below else image_stem(path))
        if contents.broken or any(map(is_dicom, contents.others)):
            yield Source(place, below[0] if below else place.name)


def _contents(folder: Path) -> Contents:
    return Contents.of(folder, (path.name for path in folder.iterdir()))
