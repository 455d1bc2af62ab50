"""Options for reading a CT, common to all commands."""

from __future__ import annotations

from dataclasses import dataclass, fields


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
    unadvised
        Names of options that messages do not advise, because a user cannot give them; set by
        `without_advice`.
    """

    series_uid: str | None = None
    subfolders: bool = True
    allow_uneven: bool = False
    allow_large: bool = False
    assume_hu: bool = False
    thickness: float | None = None
    unadvised = frozenset[str]()  # without an annotation, and thus no option itself

    @property
    def for_others(self) -> ReadingOptions:
        """Options for volumes read along with the scan, whose series and thickness are its own."""
        own = ReadingOptions(allow_large=self.allow_large, assume_hu=self.assume_hu)
        return own.without_advice("series_uid", "allow_uneven")

    def without_advice(self, *names: str) -> ReadingOptions:
        """The same options where a user cannot give some of them."""
        values = {field.name: getattr(self, field.name) for field in fields(ReadingOptions)}
        return _Unadvised(**values, unadvised=self.unadvised.union(names))


@dataclass(frozen=True, kw_only=True)
class _Unadvised(ReadingOptions):
    """See `ReadingOptions.without_advice`."""

    unadvised: frozenset[str]


DEFAULT = ReadingOptions()
LENIENT = ReadingOptions(allow_uneven=True, allow_large=True)
"""For reading the output of a volume that was accepted."""
