"""Recognition of DICOM files; this module works without pydicom."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from pmtool.errors import InputError
from pmtool.system.files import walk

_SUFFIXES = (".dcm", ".dicom", ".ima")


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
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise unreadable(error) from error


def dicom_files(folder: Path, subfolders: bool = True) -> list[Path]:
    """The DICOM files in a folder, and in all its subfolders, in order of their paths.

    Raises `InputError` for what cannot be read, which could be a missing slice.
    """
    places = islice(walk(folder, refuse), None if subfolders else 1)
    found = [place / name for place, _, names in places for name in names]
    for path in found:
        if not path.name.startswith(".") and path.is_symlink() and not path.exists():
            raise InputError(
                f"{path} is a link to a file that is not there: fetch that file, or take the link "
                "away if it is no slice"
            )
    return [path for path in sorted(found) if path.is_file() and is_dicom(path)]


def refuse(error: OSError) -> None:
    """Raise `InputError`: what cannot be read may hold slices, which would be missing."""
    raise unreadable(error)


def unreadable(error: OSError) -> InputError:
    """The error for a file or folder that may not be opened."""
    return InputError(f"{error.filename} cannot be read ({error.strerror}): change its permissions")
