"""The extent of scans, read from their headers alone."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pmtool.dicom import require_pydicom
from pmtool.errors import PmtoolError
from pmtool.images.image_file import open_header
from pmtool.images.silence import quiet_itk
from pmtool.images.volume import through_plane_axis

if TYPE_CHECKING:
    from pmtool.dicom.series import Series


class Extent(NamedTuple):
    """Extent of a scan.

    Attributes
    ----------
    slices
        Number of slices.
    height, width
        Size of a slice in pixels.
    spacing
        Slice spacing in mm.
    axis
        Through-plane axis: 0, 1 or 2 for x, y or z.
    """

    slices: int
    height: int
    width: int
    spacing: float
    axis: int = 2

    @property
    def pixels(self) -> int:
        """Number of pixels in a slice."""
        return self.height * self.width

    @property
    def voxels(self) -> int:
        """Number of voxels in the scan."""
        return self.slices * self.pixels


def extent_of(path: Path, series_uid: str | None = None) -> Extent | None:
    """Extent of an image file or of a DICOM series in a folder; None if it cannot be determined.

    Errors in the scan are left for its worker to report; only a missing pydicom raises a
    `UsageError` here.
    """
    with suppress(OSError):
        return _folder_extent(path, series_uid) if path.is_dir() else image_extent(path)
    return None


def image_extent(path: Path) -> Extent | None:
    """Extent of an image file; None if its header does not give it."""
    try:
        with quiet_itk():
            reader, _ = open_header(path)
    except PmtoolError:
        return None
    size, spacing = reader.GetSize()[:3], reader.GetSpacing()[:3]
    several = any(n > 1 for n in reader.GetSize()[3:])
    if len(size) != 3 or several or not all(0 < x < math.inf for x in spacing):
        return None
    axis = through_plane_axis(spacing)
    width, height = (n for i, n in enumerate(size) if i != axis)
    return Extent(size[axis], height, width, spacing[axis], axis)


def _folder_extent(path: Path, series_uid: str | None) -> Extent | None:
    require_pydicom()
    from pmtool.dicom.files import dicom_files
    from pmtool.dicom.series import choose_series, find_series
    from pmtool.images.reading import ReadingOptions

    with suppress(PmtoolError):
        reading = ReadingOptions(series_uid=series_uid)
        return series_extent(choose_series(find_series(dicom_files(path)), str(path), reading))
    return None


def series_extent(series: Series) -> Extent | None:
    """Extent of a DICOM series; None if its headers do not give it."""
    (height, width), spacing = series.images[0].shape, series.spacing
    if not height or not width or not spacing or not math.isfinite(spacing):
        return None
    return Extent(len(series.images), height, width, spacing)
