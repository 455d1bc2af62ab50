"""The claim of a header, and whether the file can keep it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pmtool.errors import InputError
from pmtool.system.inflation import inflated_size
from pmtool.system.limits import MAX_DEFLATION, check_unpacked

Encoding = Literal["raw", "deflate", "gzip", "text"]
_MOST = {"raw": 1.0, "deflate": MAX_DEFLATION, "gzip": MAX_DEFLATION, "text": 4.0}
"""Bytes of voxels from one of the file; as text a voxel takes a digit and a space at least."""


@dataclass(frozen=True)
class Declared:
    """Where the voxels of an image file are and what they take.

    Attributes
    ----------
    path
        Of the header.
    size
        Of every axis, among them that of several values a voxel.
    value_bytes
        Of one value.
    data
        The file with the voxels, the header's own or one in its folder.
    start
        Their first byte; in a gzipped file, counted unpacked. The last bytes of the file where
        it is None.
    encoding
        Of the voxels; ``deflate`` is one stream, ``gzip`` one or several.
    packed_whole
        The encoding is that of the file with its header, as in ``.nii.gz``.
    has_spacing
        The header says how far apart voxels are; else ITK takes 1 mm.
    """

    path: Path
    size: tuple[int, ...]
    value_bytes: int
    data: Path
    start: int | None
    encoding: Encoding
    packed_whole: bool = False
    has_spacing: bool = True

    def __post_init__(self) -> None:
        if not self.size or min(self.size) < 1 or self.value_bytes < 1:
            sizes = " x ".join(map(str, self.size))
            raise damaged(self.path, f"its header gives the size {sizes}")
        if self.start is not None and self.start < 0:
            raise damaged(self.path, "its voxels start before the file")

    @property
    def bytes(self) -> int:
        """Of the voxels, unpacked."""
        return math.prod(self.size) * self.value_bytes

    def check_plausible(self) -> None:
        """Raise `InputError` if the file is too short for its claim, however well packed."""
        check_unpacked(
            str(self.path), self._length() - self._skipped(), self.bytes, _MOST[self.encoding]
        )

    def check_complete(self) -> None:
        """Raise `InputError` unless all voxels are there; packed ones are unpacked for it.

        Some of ITK's file libraries fill what is missing with zeros, and leave out what a full
        disk does not take, and say nothing.
        """
        self.check_plausible()
        if self.encoding in ("deflate", "gzip"):
            wanted = self.bytes + ((self.start or 0) if self.packed_whole else 0)
            several = self.encoding == "gzip"
            found = inflated_size(self.data, self._skipped(), wanted, several=several)
            if found < wanted:
                raise InputError(
                    f"{self.path} is truncated: {found} of {wanted} bytes; copy it again"
                )

    def _length(self) -> int:
        return self.data.stat().st_size

    def _skipped(self) -> int:
        return 0 if self.packed_whole or self.start is None else self.start


def damaged(path: Path, why: str, form: str | None = None) -> InputError:
    """The error of a file whose header is wrong; ``form`` where it may be of another format."""
    kind = f" or no {form} file" if form else ""
    return InputError(
        f"{path} is damaged{kind}: {why}; copy it again or write it with another program"
    )
