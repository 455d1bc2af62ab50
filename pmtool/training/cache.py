"""Cache of scans, read and decoded once, as arrays on disk that are mapped into memory.

Every source has one entry: a JSON file that records the source's fingerprint and describes its
arrays. It is written after the arrays, and every file appears whole or not at all. A cache can
therefore be left half-built, and several processes can build and use it at once. Arrays of
an earlier version of a source are kept, as another run may be using them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pmtool.errors import InputError, MemoryBudgetError, OutputError
from pmtool.system.files import target_of, write_bytes
from pmtool.system.hashes import bytes_hash, json_hash
from pmtool.system.stages import Tell
from pmtool.system.units import counted
from pmtool.training.sources import BODY_HU, ReadScan, Source, read_source

BLOCK = 16
"""Height and width, in pixels, of the blocks for which the share of body is stored."""
_LEFT_OVER_SECONDS = 86_400
"""Age from which a temporary file counts as abandoned."""
_VERSION = 5


@dataclass(frozen=True)
class CachedScan:
    """A CT in the cache.

    Attributes
    ----------
    file
        File of the voxels, in the cache's folder; the share of body is in a file beside it.
    name, patient
        Name of the source, and patient shown.
    spacing, thickness
        Spacing and thickness of the slices in mm.
    shape
        Number of slices, rows and columns.
    sha256
        Hash of the voxels.
    series
        UID of the DICOM series, empty for an image file.
    """

    file: Path
    name: str
    patient: str
    spacing: float
    thickness: float
    shape: tuple[int, int, int]
    sha256: str
    series: str = ""

    @property
    def voxels(self) -> NDArray[np.int16]:
        """Voxels ``(slices, H, W)`` in HU.

        They are mapped anew each time, because thousands of files cannot be open at once.
        """
        return np.memmap(self.file, np.int16, "r", shape=self.shape)

    @property
    def body(self) -> NDArray[np.uint8]:
        """Share of body in every block, ``(slices, rows, columns)``, in units of 1/255."""
        slices, height, width = self.shape
        shape = (slices, -(-height // BLOCK), -(-width // BLOCK))
        return np.memmap(self.body_file, np.uint8, "r", shape=shape)

    @property
    def body_file(self) -> Path:
        """Path of the file with the share of body."""
        return self.file.with_suffix(".body")

    def thickness_of_mean(self, count: int) -> float:
        """Thickness, mm, of the mean of adjacent slices."""
        return self.thickness + (count - 1) * self.spacing

    def is_whole(self) -> bool:
        """Whether both files exist with all their bytes."""
        try:
            return len(self.voxels) == len(self.body)
        except (OSError, ValueError):
            return False


class Entry(NamedTuple):
    """What the cache knows about a source.

    Attributes
    ----------
    fingerprint
        Fingerprint of the source when it was read.
    scans
        The CTs of the source.
    skipped
        Sentences on what cannot be used.
    again
        Whether something was skipped for lack of memory or because a file could not be opened, so
        that another try is worthwhile.
    """

    fingerprint: str
    scans: list[CachedScan]
    skipped: list[str]
    again: bool = False


class Cache:
    """A folder with entries and their arrays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def build(self, sources: Sequence[Source], tell: Tell) -> None:
        """Read the sources that are new or have changed, or are worth another try.

        Raises
        ------
        ContentError
            If a source holds images of another modality.
        OutputError
            If the folder cannot be written, as when the disk is full; finished entries are kept.
        """
        self._remove_leftovers()
        entries = {source: self.entry(source) for source in sources}
        missing = [source for source, e in entries.items() if e is None or e.again]
        scans = counted(len(missing), "scan")
        for number, source in enumerate(missing):
            tell(f"reading {scans} into {self.folder}", number / len(missing))
            self._build(source)

    def load(self, sources: Sequence[Source]) -> tuple[list[CachedScan], list[str]]:
        """Return the scans of sources that were built, and sentences on what was skipped.

        Raises
        ------
        InputError
            If a source has changed since.
        """
        entries = [self.entry(source) for source in sources]
        if None in entries:
            changed = sources[entries.index(None)].path
            raise InputError(f"{changed} changed while it was read: run the command again")
        built = [entry for entry in entries if entry is not None]
        scans = [scan for entry in built for scan in entry.scans]
        return scans, [reason for entry in built for reason in entry.skipped]

    def entry(self, source: Source) -> Entry | None:
        """Return the entry of a source; None if it is missing, outdated or incomplete."""
        entry = self._read(source)
        if entry is None or entry.fingerprint != _fingerprint(source):
            return None
        return entry if all(scan.is_whole() for scan in entry.scans) else None

    def _build(self, source: Source) -> None:
        fingerprint = _fingerprint(source)
        stem = f"{_key(source)}-{fingerprint}"
        scans, skipped, again = [], [], False
        for number, outcome in enumerate(read_source(source)):
            if isinstance(outcome, ReadScan):
                scans.append(self._keep(outcome, f"{stem}-{number}.hu"))
            else:
                skipped.append(str(outcome))
                again |= isinstance(outcome, MemoryBudgetError)
                again |= isinstance(outcome.__cause__, OSError)
        content = _JSON.dump_json(Entry(fingerprint, scans, skipped, again), indent=1)
        self._write(content, self._path(source))

    def _remove_leftovers(self) -> None:
        """Remove temporary files of killed processes, but not of runs that are still writing."""
        for file in [file for file in self.folder.iterdir() if target_of(file.name)]:
            with suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > _LEFT_OVER_SECONDS:
                    file.unlink()

    def _keep(self, scan: ReadScan, name: str) -> CachedScan:
        content = scan.voxels.tobytes()
        cached = CachedScan(
            file=self.folder / name,
            name=scan.name,
            patient=scan.patient,
            spacing=scan.spacing,
            thickness=scan.thickness,
            shape=scan.voxels.shape,
            sha256=bytes_hash(content),
            series=scan.series,
        )
        self._write(content, cached.file)
        self._write(_body(scan.voxels).tobytes(), cached.body_file)
        return cached

    def _read(self, source: Source) -> Entry | None:
        try:
            entry = _JSON.validate_json(self._path(source).read_bytes())
        except (OSError, ValueError):
            return None
        scans = [replace(scan, file=self.folder / scan.file.name) for scan in entry.scans]
        return entry._replace(scans=scans)

    def _path(self, source: Source) -> Path:
        return self.folder / f"{_key(source)}.json"

    def _write(self, content: bytes, file: Path) -> None:
        try:
            write_bytes(content, file)
        except OutputError as error:
            raise OutputError(
                f"{error}; make room or name another folder with --cache, what is cached is kept"
            ) from error


_JSON = TypeAdapter(Entry)


def _fingerprint(source: Source) -> str:
    return json_hash([_VERSION, source.fingerprint()])[:16]


def _key(source: Source) -> str:
    """Key of a source; it includes the patient, which depends on the folder that was searched."""
    return json_hash([source.patient, str(source.path)])[:16]


def _body(voxels: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Compute `CachedScan.body` from the voxels."""
    _, height, width = voxels.shape
    margin = ((0, -height % BLOCK), (0, -width % BLOCK))
    blocks = (-(-height // BLOCK), BLOCK, -(-width // BLOCK), BLOCK)
    shares = [np.pad(s > BODY_HU, margin).reshape(blocks).mean(axis=(1, 3)) for s in voxels]
    return np.asarray(np.rint(255 * np.stack(shares)), np.uint8)
