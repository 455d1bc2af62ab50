"""CT series in folders of DICOM files."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.errors import ContentError, GeometryError, InputError
from pmtool.image_file import MAX_SKEW, quiet_itk
from pmtool.volume import Volume, load_volume

_SUFFIXES = (".dcm", ".dicom", ".ima")
_TAGS = [
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
]
_NO_IMAGES = {"ANN", "AU", "DOC", "ECG", "KO", "M3D", "PLAN", "PR", "REG", "SEG", "SR"}
"""What goes with a CT without being an image, radiotherapy's RT... apart."""
_MAX_UNEVEN = 0.1
"""Of the slices' distance: more is a missing, a doubled or a displaced slice."""


@dataclass(frozen=True)
class Series:
    """The files of one CT series, unordered, with their headers."""

    name: str
    files: list[Path]
    headers: list[Any]

    @property
    def patient(self) -> str:
        """As the first file names it; the study where it does not; empty where there is neither."""
        header = self.headers[0]
        return str(header.get("PatientID") or header.get("StudyInstanceUID") or "").strip()

    @property
    def thickness(self) -> float | None:
        """Of a slice, mm."""
        value = self.headers[0].get("SliceThickness")
        return float(value) if value else None


def is_dicom(path: Path) -> bool:
    """Whether a file looks like DICOM, by its name or its first bytes."""
    if path.suffix.lower() in _SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def find_series(files: Iterable[Path]) -> tuple[list[Series], list[Path]]:
    """The CT series among files, and the DICOM files without a header that can be read.

    Raises
    ------
    ContentError
        If there is an image of another modality, such as PT or MR.
    """
    groups: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
    damaged = []
    for file in filter(is_dicom, files):
        header = _header(file)
        if header is None:
            damaged.append(file)
            continue
        modality = str(header.get("Modality", ""))
        if modality == "CT":
            groups[str(header.get("SeriesInstanceUID", ""))].append((file, header))
        elif modality not in _NO_IMAGES and not modality.startswith("RT"):
            raise ContentError(
                f"{file} is of modality {modality or 'unknown'}, not CT: move it out of the data"
            )
    series = []
    for uid, members in sorted(groups.items()):
        folder = members[0][0].parent
        name = str(folder) if len(groups) == 1 else f"{folder}, series {uid}"
        series.append(Series(name, [f for f, _ in members], [h for _, h in members]))
    return series, damaged


def read_series(series: Series) -> Volume:
    """A series as a volume in HU.

    Raises
    ------
    InputError
        If a file cannot be read.
    GeometryError
        If the slices are no regular stack.
    """
    files, spacing = _stack(series)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{series.name} is truncated or damaged: copy it again") from error
    image.SetSpacing((*image.GetSpacing()[:2], spacing))
    return Volume(load_volume(image).image, 2, series.name)


def _stack(series: Series) -> tuple[list[Path], float]:
    """The files in order of their positions, and the distance between these, mm."""
    if len(series.files) < 3:
        raise GeometryError(f"{series.name} has fewer than three slices")
    try:
        positions = np.array([h.ImagePositionPatient for h in series.headers], dtype=float)
        axes = np.array([h.ImageOrientationPatient for h in series.headers], dtype=float)
    except (AttributeError, TypeError, ValueError) as error:
        raise GeometryError(f"{series.name} does not say where its slices lie") from error
    normal = np.cross(axes[0, :3], axes[0, 3:])
    order = np.argsort(positions @ normal)
    steps = np.diff(positions[order], axis=0)
    spacing = _regular(steps, normal, series.name)
    if np.abs(axes - axes[0]).max() > MAX_SKEW:
        raise GeometryError(f"the slices of {series.name} are not parallel")
    return [series.files[index] for index in order], spacing


def _regular(steps: NDArray[np.float64], normal: NDArray[np.float64], name: str) -> float:
    distances = steps @ normal
    spacing = float(np.median(distances))
    if spacing <= 0 or np.abs(distances - spacing).max() > _MAX_UNEVEN * spacing:
        raise GeometryError(f"the slices of {name} are unevenly spaced, missing or doubled")
    if np.linalg.norm(steps.mean(axis=0) / spacing - normal) > MAX_SKEW:
        raise GeometryError(f"{name} was acquired with a tilted gantry")
    return spacing


def _header(file: Path) -> Any:
    """The tags that matter, or None; pydicom warns of values that break the standard."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
    except (OSError, ValueError, KeyError, EOFError, pydicom.errors.InvalidDicomError):
        return None
