"""Loading a CT series as a volume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from pmtool.dicom.archive import unpacked
from pmtool.dicom.decoder import Decoder
from pmtool.dicom.files import dicom_files
from pmtool.dicom.pixels import common_type, read_images
from pmtool.dicom.series import Series, choose_series, find_series
from pmtool.dicom.stack import stack_images
from pmtool.errors import GeometryError, InputError
from pmtool.images.reading import ReadingOptions
from pmtool.images.volume import Volume
from pmtool.system.limits import check_input

_BYTES = np.dtype(np.int16).itemsize


def load_series(source: Path, reading: ReadingOptions) -> Volume:
    """Load a CT series from a folder, a zip file, or a single file with all its images.

    Parameters
    ----------
    source
        Folder, zip file or file.
    reading
        Options; ``assume_hu`` has no effect. If no series is named, only one may be a stack.

    Raises
    ------
    InputError
        If there is no CT, or a file is damaged.
    UsageError
        If there is no series with the UID.
    GeometryError
        If there are several series, or the slices do not form a stack: see `stack_images`.
    ContentError
        If the images are not CT.
    MemoryBudgetError
        If there are too many voxels for the memory, or more than are read without ``allow_large``.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist; give a folder, a zip or a file of DICOM")
    name = str(source)
    with _files(source, reading) as files:
        series = choose_series(find_series(files), name, reading)
        if files == [source] and len(series.images) == 1:
            raise GeometryError(f"{name} is a single slice; give the folder of its series")
        return read_series(series, name, reading)


def read_series(series: Series, name: str, reading: ReadingOptions) -> Volume:
    """Read a series as a volume in HU; raises the errors of `load_series`."""
    size = _BYTES * sum(math.prod(image.shape) for image in series.images)
    check_input(name, size, allow_large=reading.allow_large)
    stack = stack_images(series, name, reading)
    with Decoder() as decoder:
        slices, headers = zip(*read_images(stack.images, decoder), strict=True)
    image = sitk.GetImageFromArray(np.stack(slices, dtype=common_type(slices)))
    image.SetSpacing((*stack.planes.pixel, stack.distance))
    image.SetOrigin(stack.planes.places[0].tolist())
    image.SetDirection(stack.planes.direction.ravel().tolist())
    thickness = reading.thickness or series.thickness
    return Volume(image, 2, name, stack.positions, headers, thickness)


@contextmanager
def _files(source: Path, reading: ReadingOptions) -> Iterator[list[Path]]:
    """Provide the DICOM files of a source; those of a zip exist only within the context."""
    if source.is_dir():
        yield dicom_files(source, reading.subfolders)
    elif source.suffix.lower() == ".zip":
        with unpacked(source, reading.allow_large) as folder:
            yield dicom_files(folder)
    else:
        yield [source]
