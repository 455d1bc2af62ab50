"""Recognition of DICOM files; this module works without pydicom."""

from __future__ import annotations

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
        raise _unreadable(error) from error


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files below a folder, in order of their paths.

    Raises `InputError` for what cannot be read.
    """
    found = [place / name for place, _, names in walk(folder, refuse) for name in names]
    return [path for path in sorted(found) if path.is_file() and is_dicom(path)]


def refuse(error: OSError) -> None:
    """Raise `InputError`: what cannot be read may hold slices, which would be missing."""
    raise _unreadable(error)


def _unreadable(error: OSError) -> InputError:
    return InputError(f"{error.filename} cannot be read ({error.strerror}): change its permissions")
