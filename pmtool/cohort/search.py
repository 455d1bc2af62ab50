"""Finding the scans below a folder."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pmtool.cohort.extent import Extent, image_extent, series_extent
from pmtool.dicom import require_pydicom
from pmtool.dicom.files import Contents, is_dicom
from pmtool.errors import InputError
from pmtool.system.files import resolved, walk

if TYPE_CHECKING:
    from pmtool.dicom.series import Series


@dataclass(frozen=True)
class FoundScan:
    """An image file, or a DICOM series in a folder.

    Attributes
    ----------
    path
        The image file, or the folder of the series.
    series_uid
        UID of the DICOM series; None for an image file, or if no series is named.
    mask
        Segmentation to be resampled with the scan.
    extent
        Extent of the scan; None if unknown.
    fields
        Row of the table, by column; a template may use its values.
    subfolders
        Whether a DICOM series may lie in subfolders too.
    thickness
        Thickness of the slices, mm; None if the table does not give it.
    """

    path: Path
    series_uid: str | None = None
    mask: Path | None = None
    extent: Extent | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    subfolders: bool = True
    thickness: float | None = None


class _Part(NamedTuple):
    """The part of a DICOM series that lies in one folder.

    Attributes
    ----------
    places
        SOP instance UIDs of the images by position, or by file if the position is missing.
    is_scan
        Whether the part is a stack of slices and thus could be a scan by itself.
    """

    folder: Path
    uid: str
    patient: str
    files: list[Path]
    places: dict[str, str]
    extent: Extent | None
    is_scan: bool
    is_localizer: bool

    @classmethod
    def of(cls, folder: Path, series: Series) -> _Part:
        images, files = series.images, [image.file for image in series.images]
        places = {
            str(image.header.get("ImagePositionPatient") or image.file): str(
                image.header.get("SOPInstanceUID")
            )
            for image in images
        }
        fields = (series.uid, series.patient, files, places, series_extent(series))
        return cls(folder, *fields, series.is_stack, series.is_localizer)


class _Folder(NamedTuple):
    """The DICOM series of a folder.

    Attributes
    ----------
    fails
        Whether the folder is reported as a failing scan if no scan is found in it, because it holds
        DICOM files, unreadable files, or links to files that do not exist.
    """

    path: Path
    parts: list[_Part]
    fails: bool


def scans_below(folder: Path, out: Path | None) -> list[FoundScan]:
    """Find image files, then DICOM series, then folders that cannot be read and will fail.

    A DICOM series spread over several folders is one scan, in the folder above them.

    Parameters
    ----------
    folder
        Folder to search.
    out
        Folder that is not searched.
    """
    unreadable: list[OSError] = []
    images, dicom = [], []
    for place, folders, files in walk(folder, unreadable.append):
        if out is not None and resolved(place) == resolved(out):
            folders.clear()
            continue
        contents = Contents.of(place, files)
        images += [FoundScan(path, extent=image_extent(path)) for path in contents.images]
        dicom.append(_read(place, contents))
    closed = [FoundScan(Path(error.filename)) for error in unreadable]
    return [*images, *_dicom_scans(dicom), *closed]


def _read(folder: Path, contents: Contents) -> _Folder:
    try:
        dicom = list(filter(is_dicom, contents.others))
    except InputError:
        return _Folder(folder, [], fails=True)
    if not dicom:
        return _Folder(folder, [], fails=bool(contents.broken))
    require_pydicom()
    from pmtool.dicom.series import find_series

    result = find_series(dicom)
    parts = [_Part.of(folder, series) for series in result.series]
    fails = bool(result.series or result.damaged or result.others or contents.broken)
    return _Folder(folder, parts, fails)


def _dicom_scans(folders: Sequence[_Folder]) -> Iterator[FoundScan]:
    groups: dict[tuple[str, str], list[_Part]] = defaultdict(list)
    for folder in folders:
        for part in folder.parts:
            groups[part.uid, part.patient].append(part)
    divided = {key: parts for key, parts in groups.items() if _are_one_series(parts)}
    for folder in folders:
        whole = [part for part in folder.parts if (part.uid, part.patient) not in divided]
        scans = [
            FoundScan(part.folder, part.uid, extent=part.extent, subfolders=False)
            for part in whole
            if part.is_scan
        ]
        yield from scans
        if folder.fails and not scans and len(whole) == len(folder.parts):
            yield FoundScan(folder.path)
    yield from map(_joined, divided.values())


def _are_one_series(parts: Sequence[_Part]) -> bool:
    """Whether a series is spread over several folders, none of which holds all of it.

    Copies of a series, and phases in folders of their own, have slices at the same positions and
    are separate scans, as are series whose UIDs were removed.
    """
    if len(parts) < 2 or not parts[0].uid or any(part.is_localizer for part in parts):
        return False
    apart = any(one.places.keys().isdisjoint(other.places) for one, other in combinations(parts, 2))
    every = set().union(*(part.places for part in parts))
    instances = {item for part in parts for item in part.places.items()}
    is_unique = len(instances) == len(every)
    return apart or (is_unique and all(len(part.places) < len(every) for part in parts))


def _joined(parts: Sequence[_Part]) -> FoundScan:
    from pmtool.dicom.series import find_series

    (series,) = find_series(file for part in parts for file in part.files).series
    folder = Path(os.path.commonpath([part.folder for part in parts]))
    return FoundScan(folder, series.uid, extent=series_extent(series))
