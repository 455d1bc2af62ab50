"""Options for reading a CT, common to all commands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Which series is read, and what is accepted.

    Attributes
    ----------
    series_uid
        UID of the DICOM series to read if there are several.
    subfolders
        Whether a folder of DICOM files is read with all its subfolders.
    allow_uneven
        Accept unevenly spaced slices: at their positions in DICOM, as even in other images.
    allow_large
        Accept more than `pmtool.system.limits.MAX_INPUT` of voxels.
    assume_hu
        Accept voxels as HU even if their range suggests otherwise.
    thickness
        Thickness of the slices, mm; None for the value in DICOM headers, or else their distance.
    """

    series_uid: str | None = None
    subfolders: bool = True
    allow_uneven: bool = False
    allow_large: bool = False
    assume_hu: bool = False
    thickness: float | None = None


DEFAULT = ReadingOptions()
LENIENT = ReadingOptions(allow_uneven=True, allow_large=True)
"""For reading the output of a volume that was accepted."""
