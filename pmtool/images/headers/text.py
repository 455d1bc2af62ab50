"""What the textual headers of NRRD and MetaImage have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pmtool.errors import InputError
from pmtool.images.headers.declared import damaged
from pmtool.system.files import resolved

_MOST = 1 << 20
"""Largest number of bytes in a header; ours have a few hundred."""


def header_lines(path: Path, is_last: Callable[[str], bool]) -> tuple[list[str], int]:
    """The lines of a header up to the last one, and where the bytes after it start.

    Raises
    ------
    InputError
        If it is longer than a header can be.
    """
    lines, length = [], 0
    with path.open("rb") as file:
        while length < _MOST and (line := file.readline(_MOST)):
            length += len(line)
            lines.append(os.fsdecode(line).rstrip("\r\n"))
            if is_last(lines[-1]):
                break
        else:
            if length >= _MOST:
                raise damaged(path, "its header does not end")
    return lines, length


def beside(path: Path, name: str) -> Path:
    """The file in a header's folder that the header names as holding its voxels.

    Raises
    ------
    InputError
        If it is elsewhere, one of several, or missing.
    """
    name = name.removeprefix("./")
    if not names_one_file(name):
        raise InputError(
            f"{path} takes its voxels from {name!r}; a single file in the same folder is read, no "
            "other: convert it to a file that holds both"
        )
    data = path.with_name(name)
    if not data.is_file() or resolved(data).parent != resolved(path).parent:
        raise InputError(
            f"{path} takes its voxels from {name}, which is not in its folder; put the file there"
        )
    return data


def names_one_file(name: str) -> bool:
    """Whether a header's name for its voxels means a file in its folder, not a list or pattern."""
    return Path(name).name == name != "" and "%" not in name and name.split()[0] != "LIST"


def whole_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers separated by spaces; raises ValueError."""
    return tuple(int(word) for word in text.split())
