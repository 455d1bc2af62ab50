"""The store that keeps generated slices until the output is assembled."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pmtool.errors import OutputError, UsageError
from pmtool.system.array_file import write_array
from pmtool.system.files import (
    read_json,
    remove_leftovers,
    resolved,
    target_of,
    write_json,
    writing,
)

_KEY = "key.json"
_NAMES = {"pixels": "loops over pixels and rows (compiled or not)"}
_OUTPUTS = "outputs.json"
_SLICES = "[0-9a-f]" * 8 + "-[0-9]*.npy"


class SliceKey(NamedTuple):
    """Identifies a generated slice: its number (`Grid.number`) and the index of its sample."""

    number: int
    sample: int


class SliceStore(Protocol):
    """A mapping of generated slices in HU; a plain dictionary serves as one in memory."""

    def __contains__(self, key: object, /) -> bool: ...
    def __getitem__(self, key: SliceKey, /) -> NDArray[np.int16]: ...
    def __setitem__(self, key: SliceKey, values: NDArray[np.int16], /) -> None: ...


class Journal:
    """A store in a folder: one file per slice, and a file that identifies the run.

    Every file appears whole or not at all, so that a run can be stopped at any moment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, folder: Path, key: dict[str, Any], *, resume: bool, discard: bool) -> Journal:
        """Start a journal, or continue one that has the same key.

        Parameters
        ----------
        folder
            Folder of the journal.
        key
            Everything that determines the slices, as plain JSON values.
        resume
            Continue an existing journal.
        discard
            Delete an existing journal, unless ``resume`` is given.

        Raises
        ------
        UsageError
            If a journal exists and neither option is given, or if it has another key.
        OutputError
            If the folder cannot be written, or holds something else.
        """
        journal = cls(folder)
        with writing(folder):
            folder.mkdir(exist_ok=True)
            if journal.exists and (resume or not discard):
                journal._check_resumable(key, resume)
            else:
                journal.clear()
                write_json(key, folder / _KEY)
        return journal

    def matches(self, key: dict[str, Any]) -> bool:
        """Whether there is a journal with this key."""
        return self._key() == key

    @property
    def outputs(self) -> set[Path]:
        """Files that this run, or one that it replaces, has begun to write.

        They count as the run's own if it is killed, even if all of them were moved elsewhere.
        """
        names = read_json(self.folder / _OUTPUTS).get("files", ())
        return {resolved(self.folder.parent / name) for name in names}

    def expect(self, outputs: Iterable[Path]) -> None:
        """Record the files about to be written, and remove remains of earlier attempts."""
        paths, here = set(map(resolved, outputs)), resolved(self.folder.parent)
        for path in paths:
            remove_leftovers(path)
        names = sorted(os.path.relpath(path, here) for path in paths | self.outputs)
        write_json({"files": names}, self.folder / _OUTPUTS)

    @property
    def exists(self) -> bool:
        """Whether the journal exists; a folder alone is not a journal."""
        return (self.folder / _KEY).exists()

    @property
    def is_empty(self) -> bool:
        """Whether the journal holds no slice and no output was begun."""
        return not any(self.folder.glob(_SLICES)) and not self.outputs

    def clear(self) -> None:
        """Delete slices and temporary files; raises `OutputError` if there are other files."""
        slices = self._slices()
        if set(self.folder.iterdir()) - slices - {self.folder / _KEY, self.folder / _OUTPUTS}:
            raise OutputError(f"{self.folder} holds files that are not of a run: move them away")
        with writing(self.folder):
            for file in slices:
                file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the journal's files; the enclosing `folder_lock` removes the folder.

        The key is deleted first, because a journal without a key has ended, and the list of outputs
        last, because it shows that the slices are ours.
        """
        try:
            slices = self._slices()
            for file in (self.folder / _KEY, *slices, self.folder / _OUTPUTS):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be removed: {error.strerror}") from error

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, SliceKey) or not self._path(key).exists():
            return False
        try:
            np.load(self._path(key), mmap_mode="r")
        except (ValueError, EOFError):  # damaged since it was written
            return False
        return True

    def __getitem__(self, key: SliceKey) -> NDArray[np.int16]:
        values: NDArray[np.int16] = np.load(self._path(key))
        return values

    def __setitem__(self, key: SliceKey, values: NDArray[np.int16]) -> None:
        write_array(values, self._path(key))

    def _path(self, key: SliceKey) -> Path:
        return self.folder / f"{key.number:08x}-{key.sample}.npy"

    def _slices(self) -> set[Path]:
        """Slices and temporary files; without a key or a list of outputs, no slice is ours."""
        is_ours = self.exists or (self.folder / _OUTPUTS).exists()
        temporary = {file for file in self.folder.iterdir() if target_of(file.name)}
        return temporary | set(self.folder.glob(_SLICES) if is_ours else ())

    def _check_resumable(self, key: dict[str, Any], resume: bool) -> None:
        if not resume:
            raise UsageError(
                f"{self.folder} holds an interrupted run; go on with --resume or discard it with "
                "--overwrite"
            )
        stored = self._key()
        different = sorted(name for name, value in key.items() if stored.get(name) != value)
        if different:
            names = ", ".join(_NAMES.get(name, name) for name in different)
            raise UsageError(
                f"{self.folder} holds a run with another {names}; repeat the "
                "options of that run or discard it with --overwrite and without --resume"
            )

    def _key(self) -> dict[str, Any]:
        return read_json(self.folder / _KEY)
