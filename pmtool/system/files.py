"""Files that appear whole or not at all, whatever happens to the process or the machine."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pmtool.errors import OutputError, UsageError

if sys.platform != "win32":
    import fcntl


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A path beside another one, for this process, of which nothing is left afterwards.

    A killed process leaves it behind; see `remove_leftovers`. Processes on other machines, which
    may have the same number, use different paths.
    """
    temporary = _temporary(path)
    _remove(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)


def _temporary(path: Path) -> Path:
    machine = platform.node().partition(".")[0]
    return path.with_name(f".{path.name}.{os.getpid()}@{machine}.tmp")


def move_into_place(temporary: Path, path: Path) -> None:
    """Move a finished file into place once it is safely on disk; raises OSError."""
    with temporary.open("r+b") as file:  # Windows flushes no file that is open to read alone
        os.fsync(file.fileno())
    temporary.replace(path)


def write_bytes(content: bytes, path: Path) -> None:
    """Write all of a file or nothing; raises `OutputError`."""
    try:
        with temporary_beside(path) as temporary:
            temporary.write_bytes(content)
            move_into_place(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes, on any machine, left behind while writing a path."""
    for leftover in path.parent.glob(".*.tmp"):
        if _was_to_be(leftover.name, path.name):
            _remove(leftover)


def _was_to_be(temporary: str, name: str) -> bool:
    """Whether a name is that of a temporary file, from any machine, for a file."""
    return re.fullmatch(rf"\.{re.escape(name)}\.\d+@[^@]*\.tmp", temporary) is not None


@contextmanager
def alone_in(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Make a folder, if it does not exist, and keep other processes out of it.

    The lock ends with the process, however that ends. The folder is removed if it is empty.
    Processes on other machines are kept out only if the file system shares locks on folders,
    which NFS may not; on Windows no process is kept out.

    Parameters
    ----------
    wait
        Whether to wait until another process has left it.

    Raises
    ------
    OutputError
        If another process is in it and is not waited for, or if it cannot be created.
    """
    try:
        lock = _lock(folder, wait)
    except BlockingIOError as error:
        raise OutputError(
            f"another process is writing to {folder}; wait for it or name another output"
        ) from error
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, wait: bool) -> int | None:
    """A descriptor that holds the lock on a folder while the folder is at its path."""
    while True:
        folder.mkdir(exist_ok=True)
        if sys.platform == "win32":
            return None
        with suppress(FileNotFoundError):  # its former user has just removed it
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
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


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write all of a file or nothing; raises `OutputError`."""
    write_bytes((json.dumps(content, indent=1) + "\n").encode(), path)


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` has written; empty if there is nothing or something else."""
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def names_in(folder: Path) -> list[str]:
    """Names in a folder for outputs, in order, if it exists; raises `OutputError`."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder: name another folder")
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
    there = names_in(folder)
    own = [name for name in there if name in names]
    left = [x for x in there if any(_was_to_be(x, name) for name in names)]  # by killed processes
    others = [name for name in there if name not in (*own, *left)]
    if beside is not None and not set(others) <= set(beside):
        foreign = next(name for name in others if name not in beside)
        raise OutputError(f"{folder} holds {foreign}, which is no report: give another folder")
    if own and "pmtool" not in read_json(folder / names[0]):
        raise OutputError(
            f"{folder} holds {own[0]}, which pmtool has not written: give another folder"
        )


def check_output(path: Path, overwrite: bool) -> None:
    """Raise `OutputError` for a file that exists or whose folder does not."""
    check_place(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise OutputError(f"{path} exists; replace it with --overwrite")


def check_no_input(path: Path, inputs: Iterable[Path]) -> None:
    """Raise `OutputError` for an output that is an input, or a folder that holds one."""
    for source in (_resolved(source) for source in inputs):
        if _resolved(path) in (source, *source.parents):
            raise OutputError(f"{path} is an input; write the output to another file")


def _resolved(path: Path) -> Path:
    """A path without links, or as it is where they lead in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


def check_distinct(paths: Sequence[Path]) -> None:
    """Raise `OutputError` for two outputs that are one file."""
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise OutputError(f"two outputs would be written to {path}; name another file")
        seen.add(path.resolve())


def check_png(path: Path | None, what: str) -> None:
    """Raise `UsageError` for a picture without the suffix .png."""
    if path is not None and path.suffix.lower() != ".png":
        raise UsageError(f"the {what} is a PNG; {path} must end with .png")


def check_place(path: Path) -> None:
    """Raise `OutputError` unless the parent folder exists and can be written to."""
    try:
        _temporary(path).exists()
        path.resolve()
    except (OSError, RuntimeError) as error:  # of a link to itself
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(
            f"{path} cannot be written: {reason}; choose another name or folder"
        ) from error
    if not path.parent.is_dir():
        raise OutputError(f"the folder of {path} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent} is not writable; choose another folder")


def walk(
    folder: Path, onerror: Callable[[OSError], None]
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Like `os.walk`, but in order and through linked folders, each folder once."""
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=onerror, followlinks=True):
        place = Path(root)
        stat = place.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders.sort()
        yield place, folders, sorted(files)


def make_folder(folder: Path) -> None:
    """Make a folder, if it does not exist, and those above it; raises `OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error
