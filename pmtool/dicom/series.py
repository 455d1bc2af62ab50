"""CT series among files, and the choice of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from pmtool.dicom.headers import image_headers, number, read_dataset, texts
from pmtool.errors import ContentError, GeometryError, InputError, UsageError
from pmtool.images.reading import ReadingOptions
from pmtool.system.units import counted

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
DISTINGUISHING = (
    "ImageType",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "ConvolutionKernel",
    "KVP",
    "SliceThickness",
    "ReconstructionDiameter",
    "AcquisitionTime",
    "ContentTime",
    "InstanceNumber",
)
"""Attributes that may distinguish images at the same position, the most informative first."""
_TAGS = (
    "SOPClassUID",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "RescaleSlope",
    "RescaleIntercept",
    *DISTINGUISHING,
)
_NO_SCANS = {"ANN", "AU", "CT", "DOC", "ECG", "KO", "M3D", "OT", "PLAN", "PR", "REG", "SEG", "SR"}
"""Modalities, besides radiotherapy's RT..., that accompany a CT but are not other scans. CT is
included because dose reports and the like have modality CT but are not CT images."""


@dataclass(frozen=True)
class Image:
    """A CT image: a file, or one of a file's frames."""

    file: Path
    frame: int
    header: Dataset

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; 0 if unknown."""
        return int(number(self.header, "Rows") or 0), int(number(self.header, "Columns") or 0)


@dataclass(frozen=True)
class Series:
    """The images of one CT series, unordered."""

    uid: str
    images: list[Image]

    @property
    def patient(self) -> str:
        """Patient named in the first image; else the study; else empty."""
        return self._text("PatientID") or self._text("StudyInstanceUID")

    @property
    def thickness(self) -> float | None:
        """Median thickness of the slices, mm; None if no image gives it."""
        thicknesses = (number(image.header, "SliceThickness") or 0.0 for image in self.images)
        positive = [thickness for thickness in thicknesses if thickness > 0]
        return float(np.median(positive)) if positive else None

    @property
    def spacing(self) -> float | None:
        """Median distance between neighbouring slices, mm, for descriptions; None if unknown."""
        try:
            places = np.array([i.header.ImagePositionPatient for i in self.images], dtype=float)
            axes = np.array(self.images[0].header.ImageOrientationPatient, dtype=float)
            steps = np.diff(np.sort(places @ np.cross(axes[:3], axes[3:])))
        except (AttributeError, IndexError, TypeError, ValueError):
            return None
        return round(float(np.median(steps)), 3) if len(steps) else None

    @property
    def is_stack(self) -> bool:
        """Whether the series may be a scan: neither a localizer nor a single slice."""
        return len(self.images) > 1 and not self.is_localizer

    @property
    def is_localizer(self) -> bool:
        """Whether the image is an overview for planning a scan."""
        return _is_localizer(self.images[0])

    def __str__(self) -> str:
        kernel, spacing = self._text("ConvolutionKernel"), self.spacing
        details = [self._text("SeriesDescription") or "no description"]
        details += [counted(len(self.images), "slice")]
        details += [f"{spacing:g} mm apart"] if spacing else []
        details += [f"kernel {kernel}"] if kernel else []
        return f"{self.uid} ({', '.join(details)})"

    def _text(self, keyword: str) -> str:
        return " ".join(texts(self.images[0].header, keyword)).strip()


class Found(NamedTuple):
    """Result of searching files.

    Attributes
    ----------
    series
        CT series.
    damaged
        Errors of files that cannot be read.
    others
        Images of other modalities, one file for each modality.
    """

    series: list[Series]
    damaged: list[InputError]
    others: dict[str, Path]


def find_series(files: Iterable[Path]) -> Found:
    """The CT series among DICOM files, in order of their UIDs."""
    groups: dict[str, list[Image]] = defaultdict(list)
    damaged: list[InputError] = []
    others: dict[str, Path] = {}
    for file in files:
        try:
            dataset = read_dataset(file, _TAGS)
        except InputError as error:
            damaged.append(error)
            continue
        modality = str(dataset.get("Modality") or "unknown")
        if dataset.get("SOPClassUID") in CT_CLASSES and modality in ("CT", "unknown"):
            images = [Image(file, n, header) for n, header in enumerate(image_headers(dataset))]
            groups[str(dataset.get("SeriesInstanceUID", ""))] += images
        elif "Rows" in dataset and modality not in _NO_SCANS and not modality.startswith("RT"):
            others.setdefault(modality, file)
    series = [Series(uid, _scanned(images)) for uid, images in sorted(groups.items())]
    return Found(series, damaged, others)


def choose_series(found: Found, name: str, reading: ReadingOptions) -> Series:
    """The series asked for by its UID, or the only one that is a stack of slices.

    Raises
    ------
    UsageError
        If there is no series with the UID.
    InputError
        If a file is damaged or there are no CT images.
    GeometryError
        If there are several series.
    ContentError
        If all images are of another modality.
    """
    if found.damaged:
        raise found.damaged[0]
    if not found.series and found.others:
        modalities = ", ".join(found.others)
        raise ContentError(f"{name} holds images of modality {modalities}, not CT; give a CT")
    if not found.series:
        raise InputError(
            f"{name} holds no CT images; give a series of CT, or write a segmentation (SEG or "
            "RTSTRUCT) as NRRD or NIfTI"
        )
    listed, uid = "; ".join(map(str, found.series)), reading.series_uid
    if uid is not None:
        uid = uid.strip()
        chosen = [series for series in found.series if series.uid == uid]
        if not chosen:
            raise UsageError(f"{name} has no CT series {uid}; choose one of these: {listed}")
    else:
        chosen = [series for series in found.series if series.is_stack] or found.series
    if len(chosen) > 1:
        remedy = "choose one by --series-uid UID (in a cohort, by series_uid in its table)"
        if "series_uid" in reading.unadvised:
            remedy = "give a folder with one of them alone"
        raise GeometryError(f"{name} holds {len(found.series)} CT series; {remedy}: {listed}")
    return chosen[0]


def _scanned(images: list[Image]) -> list[Image]:
    """The images except any localizers that accompany other images in a series."""
    return [image for image in images if not _is_localizer(image)] or images


def _is_localizer(image: Image) -> bool:
    return "LOCALIZER" in texts(image.header, "ImageType")
