"""Recognising DICOM files and other contents of a folder; this module works without pydicom."""

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
"""Groups with which a file without a preamble may begin."""
_STORAGE = b"1.2.840.10008.5.1.4.1.1."
"""Prefix of the SOP class of all images, which is among the first attributes."""


def is_dicom(path: Path) -> bool:
    """Whether a file looks like DICOM, by its name or its first bytes.

    Hidden files never count as DICOM: macOS puts one beside each file that it copies. Raises
    `InputError` for a file that cannot be opened.
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
    """The files of one folder except hidden ones, by kind and in order of their names.

    Attributes
    ----------
    images
        Files with an image's name, including links to images that do not exist.
    others
        Files with other names, each of which may be DICOM.
    broken
        Links with other names to files that do not exist, each of which may be a missing slice.
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

    Raises `InputError` if anything cannot be read, because it could be a missing slice.
    """
    places = islice(walk(folder, refuse), None if subfolders else 1)
    folders = [Contents.of(place, names) for place, _, names in places]
    broken = [link for contents in folders for link in contents.broken]
    if broken:
        raise not_there(broken[0])
    return sorted(path for contents in folders for path in contents.others if is_dicom(path))


def refuse(error: OSError) -> None:
    """Raise `InputError`, because slices in what cannot be read would be missing."""
    raise unreadable(error)


def not_there(link: Path) -> InputError:
    """The error for a link to a file that does not exist."""
    return InputError(
        f"{link} is a link to a file that is not there: fetch that file, or take the link away if "
        "it is not a slice"
    )


def unreadable(error: OSError) -> InputError:
    """The error for a file or folder that may not be opened."""
    return InputError(f"{error.filename} cannot be read ({error.strerror}): change its permissions")
