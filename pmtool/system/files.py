"""Files that appear whole or not at all, whatever happens to the process or the machine."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pmtool.errors import OutputError

if sys.platform != "win32":
    import fcntl


@contextmanager
def writing(path: Path | str, remedy: str = "") -> Iterator[None]:
    """Turn an OSError into an `OutputError` that names the unwritable path and the remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path} cannot be written: {reason}{remedy}") from error


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside another one, for this process; it is removed afterwards.

    A killed process leaves it behind; see `remove_leftovers`. Processes on other machines, which
    may have the same process ID, use different paths.
    """
    temporary = temporary_of(path)
    _remove(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)


def temporary_of(path: Path) -> Path:
    """Temporary path, for this process and machine, of a file that is not yet whole."""
    machine = platform.node().partition(".")[0]
    return path.with_name(f".{path.name}.{os.getpid()}@{machine}.tmp")


def move_into_place(temporary: Path, path: Path) -> None:
    """Move a finished file into place once it is safely on disk; raises OSError."""
    with temporary.open("r+b") as file:  # Windows does not flush files open for reading
        os.fsync(file.fileno())
    temporary.replace(path)


def write_bytes(content: bytes, path: Path) -> None:
    """Write all of a file or nothing; raises `OutputError`."""
    with writing(path), temporary_beside(path) as temporary:
        temporary.write_bytes(content)
        move_into_place(temporary, path)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes, on any machine, left behind while writing a path."""
    for leftover in path.parent.glob(".*.tmp"):
        if target_of(leftover.name) == path.name:
            _remove(leftover)


def target_of(temporary: str) -> str | None:
    """Name of the file that a temporary file, from any machine, was to become; None for others."""
    match = re.fullmatch(r"\.(.+)\.\d+@[^@]*\.tmp", temporary)
    return None if match is None else match[1]


@contextmanager
def folder_lock(folder: Path, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Make a folder, if it does not exist, and keep other processes out of it.

    The lock is released when the process ends, however it ends. The folder is removed if empty.
    Processes on other machines are kept out only if the file system shares locks on folders,
    which NFS may not; on Windows no process is kept out.

    Parameters
    ----------
    shared
        Whether to let in other processes that share the lock.
    wait
        Whether to wait until another process has left the folder.

    Raises
    ------
    OutputError
        If another process is using the folder and is not waited for, or if it cannot be created.
    """
    with writing(folder, "; choose another name or folder"):
        try:
            lock = _lock(folder, shared, wait)
        except BlockingIOError as error:
            raise OutputError(
                f"another process is writing to {folder}; wait for it or name another output"
            ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, shared: bool, wait: bool) -> int | None:
    """Descriptor that holds the lock on a folder, which is checked to be still at its path."""
    while True:
        folder.mkdir(exist_ok=True)
        if sys.platform == "win32":
            return None
        with suppress(FileNotFoundError):  # its former user has just removed it
            lock = os.open(folder, os.O_RDONLY)
            try:
                kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.flock(lock, kind | (0 if wait else fcntl.LOCK_NB))
                if os.path.samestat(os.fstat(lock), folder.stat()):
                    return lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def json_text(content: dict[str, Any]) -> str:
    """JSON as it is written to files."""
    return json.dumps(content, indent=1) + "\n"


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write all of a file or nothing; raises `OutputError`."""
    write_bytes(json_text(content).encode(), path)


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote; empty if the file is missing or holds something else."""
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def resolved(path: Path) -> Path:
    """An absolute path with its links resolved; a link that leads to itself stays as it is."""
    return Path(os.path.realpath(path))


def walk(
    folder: Path, onerror: Callable[[OSError], None]
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Like `os.walk`, but sorted, following linked folders, and visiting each folder once.

    Hidden folders are left out: git-annex keeps files in them and desktops what was deleted. So are
    folders that are removed meanwhile.
    """

    def report(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            onerror(error)

    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=report, followlinks=True):
        place = Path(root)
        try:
            stat = place.stat()
        except FileNotFoundError:
            continue
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place, folders, sorted(files)
