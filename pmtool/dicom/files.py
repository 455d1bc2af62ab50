"""Which files are DICOM; this module does without pydicom."""

from __future__ import annotations

import os
from pathlib import Path

_SUFFIXES = (".dcm", ".dicom", ".ima")


def is_dicom(path: Path) -> bool:
    """Whether a file looks like DICOM, by its name or its first bytes.

    Hidden files are none: macOS puts one beside each file that it copies.
    """
    if path.name.startswith("."):
        return False
    if path.suffix.lower() in _SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files below a folder, in order of their paths; folders that are links are left."""
    found = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    return [path for path in sorted(found) if path.is_file() and is_dicom(path)]
