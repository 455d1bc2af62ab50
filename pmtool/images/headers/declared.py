"""What a header claims, and whether the file can hold it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pmtool.errors import InputError
from pmtool.system.inflation import inflated_size
from pmtool.system.limits import MAX_DEFLATION, check_unpacked

Encoding = Literal["raw", "deflate", "gzip", "text"]
_MOST = {"raw": 1.0, "deflate": MAX_DEFLATION, "gzip": MAX_DEFLATION, "text": 4.0}
"""Most bytes of voxels per byte of the file; a voxel as text is at least a digit and a space."""

_OTHER_LENGTHS = {
    *("nm", "um", "µm", "\u03bcm", "cm", "dm", "m", "in", "inch"),
    *("micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
    *("centimeter", "centimeters", "centimetre", "centimetres"),
    *("meter", "meters", "metre", "metres"),
}


@dataclass(frozen=True)
class Declared:
    """Where the voxels of an image file are, and their size.

    Attributes
    ----------
    path
        Path of the header.
    size
        Size of every axis, including the one for several values per voxel.
    value_bytes
        Bytes of one value.
    data
        File with the voxels: the header's own file or another one in its folder.
    start
        Offset of the first byte of the voxels or, if they are encoded, of the encoded stream. None
        if the voxels are the last bytes of the file.
    encoding
        Encoding of the voxels; ``deflate`` is one stream, ``gzip`` one or several.
    packed_before
        Number of bytes before the voxels in the encoded stream, such as the header of ``.nii.gz``.
    packed_bytes
        Number of bytes of encoded voxels, beyond which ITK does not read; all up to the end of the
        file if the header does not say.
    spacing_fault
        What is wrong with the spacing in the header, with the remedy, worded to follow "the header
        of ..."; empty if nothing is wrong. ITK would assume 1 mm, or take other units for mm.
    """

    path: Path
    size: tuple[int, ...]
    value_bytes: int
    data: Path
    start: int | None
    encoding: Encoding
    packed_before: int = 0
    packed_bytes: int = sys.maxsize
    spacing_fault: str = ""

    def __post_init__(self) -> None:
        if not self.size or min(self.size) < 1 or self.value_bytes < 1:
            sizes = " x ".join(map(str, self.size))
            raise damaged(self.path, f"its header gives the size {sizes}")
        if self.packed_before < 0 or (self.start is not None and self.start < 0):
            raise damaged(self.path, "its voxels start before the file")

    @property
    def bytes(self) -> int:
        """Bytes of the voxels, unpacked."""
        return math.prod(self.size) * self.value_bytes

    def check_plausible(self) -> None:
        """Raise `InputError` if the file is too short for its claim, whatever the compression."""
        packed = self.data.stat().st_size - self._skipped()
        check_unpacked(str(self.path), packed, self.bytes, _MOST[self.encoding])

    def check_complete(self) -> None:
        """Raise `InputError` unless all voxels are there; compressed ones are unpacked to count.

        Some of ITK's file libraries silently fill missing voxels with zeros, and silently drop
        what does not fit on a full disk.
        """
        self.check_plausible()
        if self.encoding in ("deflate", "gzip"):
            needed = self.bytes + self.packed_before
            several = self.encoding == "gzip"
            unpacked = inflated_size(
                self.data, self._skipped(), needed, several=several, most=self.packed_bytes
            )
            if unpacked < needed:
                raise InputError(
                    f"{self.path} is truncated: {unpacked} of {needed} bytes; copy it again"
                )

    def _skipped(self) -> int:
        return self.start or 0


NO_SPACING = "has no spacing; write the file again with one"


def units_fault(units: Iterable[str]) -> str:
    """The fault of a header that has lengths in these units; empty if they are mm or unknown."""
    other = next((unit for unit in units if unit.lower() in _OTHER_LENGTHS), None)
    return f"gives lengths in {other}; write the file again in mm" if other else ""


def damaged(path: Path, why: str, form: str | None = None) -> InputError:
    """The error for a file with a wrong header; ``form`` if it may be of another format."""
    kind = f" or no {form} file" if form else ""
    return InputError(
        f"{path} is damaged{kind}: {why}; copy it again or write it with another program"
    )
