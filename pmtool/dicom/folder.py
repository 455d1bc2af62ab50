"""A derived series in a folder, one file per slice, which appears whole or not at all."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from pmtool.dicom.derived import MAKER, DerivedSeries
from pmtool.dicom.headers import read_dataset
from pmtool.errors import InputError, OutputError
from pmtool.system.files import temporary_beside, writing

_TAGS = ["Manufacturer", "SeriesInstanceUID"]


def write_series(series: DerivedSeries, folder: Path) -> None:
    """Write ``0001.dcm``, ``0002.dcm`` ... to a new folder, replacing an existing one.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    digits = max(4, len(str(len(series))))
    with writing(folder), temporary_beside(folder) as temporary:
        new_folder = temporary / "made"
        new_folder.mkdir(parents=True)
        with warnings.catch_warnings():  # about the source's values, see `check_derivable`
            warnings.simplefilter("ignore")
            for index in range(len(series)):
                _write(series[index], new_folder / f"{index + 1:0{digits}d}.dcm")
        _move_into_place(new_folder, folder, temporary / "former")


def check_series_folder(path: Path, overwrite: bool) -> None:
    """Raise `OutputError` unless a path is free, an empty folder, or a series to be replaced."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise OutputError(f"{path} is a file or a link; a DICOM series needs a folder of its own")
    if os.path.ismount(path):  # pathlib's version fails on Windows
        raise OutputError(f"{path} is where a disk is mounted; name a folder in it for the series")
    if not path.exists():
        return
    if not os.access(path, os.W_OK):  # as is needed to move it aside
        raise OutputError(f"{path} is not writable; choose another folder")
    if any(path.iterdir()):
        if not _is_ours(path):
            raise OutputError(
                f"{path} holds other files than one series written by pmtool; name a new folder "
                "for a DICOM series, or a file for an image"
            )
        if not overwrite:
            raise OutputError(f"{path} exists; replace it with --overwrite")


def _write(dataset: Dataset, path: Path) -> None:
    buffer = BytesIO()
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(buffer, enforce_file_format=True)
    with path.open("wb") as file:
        file.write(buffer.getvalue())
        file.flush()
        os.fsync(file.fileno())


def _move_into_place(made: Path, folder: Path, former: Path) -> None:
    """Move a finished folder into place; an existing one goes to a free path."""
    if not folder.exists():
        made.replace(folder)
        return
    try:
        folder.replace(former)
        made.replace(folder)
    except BaseException:
        if former.exists() and not folder.exists():
            former.replace(folder)
        raise


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds one series that pmtool made, and nothing else."""
    try:
        headers = [read_dataset(path, _TAGS) for path in folder.iterdir()]
    except InputError:
        return False
    series = {(header.get("Manufacturer"), header.get("SeriesInstanceUID")) for header in headers}
    return len(series) == 1 and series.pop()[0] == MAKER
