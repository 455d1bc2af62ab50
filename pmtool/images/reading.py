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
    advise_series_uid, advise_allow_uneven
        Whether messages may advise these options; not where a user cannot give them.
    """

    series_uid: str | None = None
    subfolders: bool = True
    allow_uneven: bool = False
    allow_large: bool = False
    assume_hu: bool = False
    thickness: float | None = None
    advise_series_uid: bool = True
    advise_allow_uneven: bool = True

    @property
    def for_others(self) -> ReadingOptions:
        """Options for volumes read along with the scan, whose series and thickness are its own."""
        return ReadingOptions(
            allow_large=self.allow_large,
            assume_hu=self.assume_hu,
            advise_series_uid=False,
            advise_allow_uneven=False,
        )


DEFAULT = ReadingOptions()
LENIENT = ReadingOptions(allow_uneven=True, allow_large=True)
"""For reading the output of a volume that was accepted."""
