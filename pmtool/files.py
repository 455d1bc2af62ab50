"""Files that appear whole or not at all, whatever happens to process or machine."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pmtool.errors import OutputError


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A path of this process beside another one, of which nothing is left afterwards.

    A killed process leaves it; see `remove_leftovers`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)


def move_into_place(temporary: Path, path: Path) -> None:
    """Let a finished file appear, once the disk has taken it; raises OSError."""
    with temporary.open("rb") as file:
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
    """Remove what killed processes left when they were writing a path."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
