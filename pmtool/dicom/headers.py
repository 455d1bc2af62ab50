"""Headers of DICOM files: one data set per image, even if a file holds many."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pmtool.dicom.files import unreadable
from pmtool.errors import InputError, MemoryBudgetError
from pmtool.system.inflation import inflated_size
from pmtool.system.limits import MAX_INPUT, check_input

_BEFORE_META = 144
"""Number of bytes of the preamble and the element with the meta information's length."""
_FRAMES = "PerFrameFunctionalGroupsSequence"
_SHARED = "SharedFunctionalGroupsSequence"
_GROUPS = (
    "CTAcquisitionDetailsSequence",
    "CTImageFrameTypeSequence",
    "CTReconstructionSequence",
    "CardiacSynchronizationSequence",
    "FrameContentSequence",
    "FrameVOILUTSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "TemporalPositionSequence",
)
"""Functional groups whose attributes have the same meaning in a classic image."""


def read_dataset(file: Path, tags: Sequence[str] = (), *, pixels: bool = False) -> Dataset:
    """Read the data set of a file.

    Parameters
    ----------
    file
        DICOM file, with or without the preamble.
    tags
        Keywords of the attributes to read; all if empty.
    pixels
        Whether to read the pixels too.

    Raises
    ------
    InputError
        If the file is damaged or may not be read.
    MemoryBudgetError
        If it inflates beyond the limit.
    """
    keywords = [*tags, _SHARED, _FRAMES, "SOPClassUID"] if tags else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_inflated(file)
            dataset = pydicom.dcmread(
                file, stop_before_pixels=not pixels, specific_tags=keywords, force=True
            )
            _convert(dataset)
    except (MemoryError, MemoryBudgetError):
        raise
    except PermissionError as error:
        raise unreadable(error) from error
    except Exception as error:  # pydicom may raise any exception
        raise damaged(file) from error
    if "SOPClassUID" not in dataset and "MediaStorageSOPClassUID" not in dataset.file_meta:
        raise damaged(file)
    return dataset


def image_headers(dataset: Dataset) -> list[Dataset]:
    """A header for every image of a file, without pixels.

    For the frames of an enhanced image, shared and individual attributes are combined in one data
    set, as if each frame were a classic image.
    """
    frames = _items(dataset, _FRAMES)
    common = _without(dataset, _FRAMES, _SHARED, "PixelData")
    if not frames:
        return [common]
    shared = _items(dataset, _SHARED) or [Dataset()]
    headers = [_flat(common, shared[0], frame) for frame in frames]
    for index, header in enumerate(headers, 1):
        header.add_new("InstanceNumber", "IS", index)  # the element itself is common to all
    return headers


def texts(header: Dataset, keyword: str) -> list[str]:
    """Values of an attribute as texts; none if it is missing or empty."""
    value = header.get(keyword)
    return [str(item) for item in ([value] if isinstance(value, str) else value or [])]


def number(header: Dataset, keyword: str) -> float | None:
    """An attribute as a finite number; None if it is missing or something else."""
    value = header.get(keyword)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def damaged(file: Path) -> InputError:
    """The error for a file that cannot be read."""
    return InputError(f"{file} is a damaged DICOM file: copy it again, or take it away")


def _flat(common: Dataset, *groups: Dataset) -> Dataset:
    header = _without(common)
    for group in groups:
        for keyword in _GROUPS:
            for item in _items(group, keyword):
                header.update(item)
    _convert(header)
    return header


def _check_inflated(file: Path) -> None:
    """Raise `MemoryBudgetError` for a deflated file that inflates beyond the limit."""
    try:
        meta = read_file_meta_info(file)
    except InvalidDicomError:  # no preamble, thus not deflated
        return
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        start = _BEFORE_META + meta.FileMetaInformationGroupLength
        check_input(str(file), inflated_size(file, start, MAX_INPUT + 1, wbits=-15))


def _items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """Items of a sequence; none if it is missing or something else."""
    value = dataset.get(keyword)
    return value if isinstance(value, pydicom.Sequence) else ()


def _without(dataset: Dataset, *keywords: str) -> Dataset:
    copy = Dataset()  # Dataset(dataset) would share its elements
    copy.update(dataset)
    for keyword in keywords:
        if keyword in copy:
            del copy[keyword]
    return copy


def _convert(dataset: Dataset) -> None:
    """Convert bytes to values now, without warnings; invalid values are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in list(dataset.keys()):
            try:
                element = dataset[tag]
                for item in element.value if element.VR == "SQ" else ():
                    _convert(item)
            except MemoryError:
                raise
            except Exception:  # as above
                del dataset[tag]
