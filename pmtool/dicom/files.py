"""Recognition of DICOM files and what else a folder holds; this module works without pydicom."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pmtool.errors import InputError
from pmtool.images.names import image_suffix
from pmtool.system.files import walk

_SUFFIXES = (".dcm", ".dicom", ".ima")
_FIRST = (b"\2\0", b"\b\0")
"""Groups that a file without preamble may begin with."""
_STORAGE = b"1.2.840.10008.5.1.4.1.1."
"""Begins the SOP class of all images, which is among the first attributes."""


def is_dicom(path: Path) -> bool:
    """Whether a file looks like DICOM, by its name or its first bytes.

    Hidden files are not: macOS puts one beside each file that it copies. Raises `InputError` for
    a file that cannot be opened.
    """
    if path.name.startswith("."):
        return False
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise unreadable(error) from error
    return start[128:132] == b"DICM" or (start.startswith(_FIRST) and _STORAGE in start)


class Contents(NamedTuple):
    """The files of one folder without the hidden ones, those of a kind in the order of the names.

    Attributes
    ----------
    images
        Files with the name of an image, also links to images that are not there.
    others
        Files with other names: each may be DICOM.
    broken
        Links with other names to files that are not there: each may be a missing slice.
    """

    images: list[Path]
    others: list[Path]
    broken: list[Path]

    @classmethod
    def of(cls, folder: Path, names: Iterable[str]) -> Contents:
        """Sort the names of a folder's files; pipes and devices are left out."""
        contents = cls([], [], [])
        for path in (folder / name for name in sorted(names) if not name.startswith(".")):
            is_broken = not path.exists()
            if image_suffix(path) and (is_broken or path.is_file()):
                contents.images.append(path)
            elif is_broken:
                contents.broken.append(path)
            elif path.is_file():
                contents.others.append(path)
        return contents


def dicom_files(folder: Path, subfolders: bool = True) -> list[Path]:
    """The DICOM files in a folder, and in all its subfolders, in order of their paths.

    Raises `InputError` for what cannot be read, which could be a missing slice.
    """
    places = islice(walk(folder, refuse), None if subfolders else 1)
    folders = [Contents.of(place, names) for place, _, names in places]
    broken = [link for contents in folders for link in contents.broken]
    if broken:
        raise not_there(broken[0])
    return sorted(path for contents in folders for path in contents.others if is_dicom(path))


def refuse(error: OSError) -> None:
    """Raise `InputError`: what cannot be read may hold slices, which would be missing."""
    raise unreadable(error)


def not_there(link: Path) -> InputError:
    """The error for a link to a file that is not there."""
    return InputError(
        f"{link} is a link to a file that is not there: fetch that file, or take the link away if "
        "it is not a slice"
    )


def unreadable(error: OSError) -> InputError:
    """The error for a file or folder that may not be opened."""
    return InputError(f"{error.filename} cannot be read ({error.strerror}): change its permissions")
