"""Outputs: checks before the work that nothing is replaced unasked and all can be written."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pmtool.errors import OutputError, UsageError
from pmtool.system.files import (
    folder_lock,
    read_json,
    remove_leftovers,
    resolved,
    target_of,
    temporary_of,
    write_bytes,
)


def names_in(folder: Path) -> list[str]:
    """Sorted names in a folder for outputs; empty if it does not exist.

    Raises
    ------
    OutputError
        If the folder, or the one that it is to be made in, is a file or cannot be written to.
    """
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        is_folder = existing.is_dir()
    except OSError as error:  # a working folder that is gone, or one that may not be searched
        raise OutputError(
            f"{folder} cannot be made: {error.strerror}; choose another folder"
        ) from error
    if not is_folder:
        raise OutputError(f"{existing} is a file, not a folder: name another folder")
    if not os.access(existing, os.W_OK):
        raise OutputError(f"{existing} is not writable; choose another folder")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def check_report(folder: Path, names: Sequence[str], beside: Collection[str] | None = None) -> None:
    """Raise `OutputError` unless a folder has room for a report, or holds an earlier one.

    Parameters
    ----------
    names
        Names of its files; the first is a JSON file that is written first and names pmtool.
    beside
        Names of what else may be there; None for anything.
    """
    existing = names_in(folder)
    own = [name for name in existing if name in names]
    # Left behind by killed processes.
    left = [name for name in existing if target_of(name) in names]
    others = [name for name in existing if name not in (*own, *left)]
    if beside is not None and not set(others) <= set(beside):
        foreign = next(name for name in others if name not in beside)
        raise OutputError(f"{folder} holds {foreign}, which is not a report: give another folder")
    if own and "pmtool" not in read_json(folder / names[0]):
        raise OutputError(
            f"{folder} holds {own[0]}, which pmtool has not written or may not read: give another "
            "folder"
        )


def write_report_files(folder: Path, contents: Mapping[str, str | None]) -> None:
    """Write the files of a report by name, the JSON first, while no other process does so.

    A file without content is removed, because it is from an earlier report.

    Raises
    ------
    OutputError
        If they cannot be written or removed.
    """
    with folder_lock(folder, wait=True):
        for name in contents:
            remove_leftovers(folder / name)
        for name, content in contents.items():
            if content is None:
                _remove(folder / name)
            else:
                write_bytes(content.encode(), folder / name)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be removed: {error.strerror}") from error


def check_output(path: Path, overwrite: bool) -> None:
    """Raise `OutputError` for a file that exists or whose folder does not.

    Pipes and devices would be replaced by a file, and so would ``/dev/stdout``, a link.
    """
    check_place(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file")
    if path.parent == Path("/dev") or (path.exists() and not path.is_file()):
        raise OutputError(f"{path} is a pipe or a device; name a file")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise OutputError(f"{path} exists; replace it with --overwrite")


def check_no_input(path: Path, inputs: Iterable[Path]) -> None:
    """Raise `OutputError` for an output that is an input, or a folder that holds one."""
    for source in map(resolved, inputs):
        if resolved(path) in (source, *source.parents):
            raise OutputError(f"{path} is an input; write the output to another file")


def check_distinct_paths(paths: Sequence[Path]) -> None:
    """Raise `OutputError` if two outputs are the same file."""
    seen: set[Path] = set()
    for path in paths:
        if resolved(path) in seen:
            raise OutputError(f"two outputs would be written to {path}; name another file")
        seen.add(resolved(path))


def check_png(path: Path | None, what: str) -> None:
    """Raise `UsageError` for a picture without the suffix .png."""
    if path is not None and path.suffix.lower() != ".png":
        raise UsageError(f"the {what} is a PNG; {path} must end with .png")


def check_place(path: Path) -> None:
    """Raise `OutputError` unless the parent folder exists and can be written to."""
    try:
        temporary_of(path).exists()
        path.resolve()
    except (OSError, RuntimeError) as error:  # as for a link to itself
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(
            f"{path} cannot be written: {reason}; choose another name or folder"
        ) from error
    if not path.parent.is_dir():
        raise OutputError(f"the folder of {path} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent} is not writable; choose another folder")


def remove_empty(paths: Iterable[Path], within: Path) -> None:
    """Remove the folders of files that were not written, if they are empty."""
    folders = {place for path in paths for place in path.parents if within in place.parents}
    for folder in sorted(folders, reverse=True):  # subfolders come first
        with suppress(OSError):
            folder.rmdir()


def make_folder(folder: Path) -> None:
    """Make a folder, if it does not exist, and those above it; raises `OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be made: {error.strerror}; choose another folder"
        ) from error
