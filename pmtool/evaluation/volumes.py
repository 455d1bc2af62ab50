"""Volumes of many scans, of which one at a time is in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

from pmtool.errors import InputError
from pmtool.images.volume import Volume


class Volumes:
    """Volumes by the names of their scans; the one asked for last is in memory.

    The others are read again when they are asked for, without the warnings of the first time.
    """

    def __init__(self, readers: Mapping[str, Callable[[], Volume]]) -> None:
        self._readers = readers
        self._states: dict[str, tuple[str, float]] = {}
        self._latest: tuple[str, Volume] | None = None

    @property
    def names(self) -> list[str]:
        """Names of all scans, in the order in which they were given."""
        return list(self._readers)

    def __getitem__(self, name: str) -> Volume:
        """The volume of a scan.

        Raises
        ------
        InputError
            If it is no longer what it was when it was read first.
        PmtoolError
            As raised by its reader.
        """
        if self._latest is None or self._latest[0] != name:
            self._latest = None  # its memory is free before that of another is needed
            self._latest = name, self._read(name)
        return self._latest[1]

    def digest(self, name: str) -> str:
        """SHA-256 of the volume's voxels and geometry; it is read only if it never was before."""
        if name not in self._states:
            self[name]
        return self._states[name][0]

    def _read(self, name: str) -> Volume:
        if name not in self._states:
            volume = self._readers[name]()
            self._states[name] = _state(volume)
            return volume
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            volume = self._readers[name]()
        if _state(volume) != self._states[name]:
            raise InputError(
                f"{volume.name} has changed since it was first read; give it again once it no "
                "longer changes"
            )
        return volume


def _state(volume: Volume) -> tuple[str, float]:
    """What must be the same whenever a volume is read."""
    return volume.digest(), volume.thickness
