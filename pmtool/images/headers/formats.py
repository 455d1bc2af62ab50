"""The formats that pmtool reads, by file suffix."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pmtool.errors import InputError
from pmtool.images.headers.declared import Declared
from pmtool.images.headers.meta import declared_meta
from pmtool.images.headers.nifti import declared_nifti
from pmtool.images.headers.nrrd import declared_nrrd

_NRRD = ("NrrdImageIO", declared_nrrd)
_NIFTI = ("NiftiImageIO", declared_nifti)
_META = ("MetaImageIO", declared_meta)
READERS = {
    ".nrrd": _NRRD,
    ".nhdr": _NRRD,
    ".nii": _NIFTI,
    ".nii.gz": _NIFTI,
    ".mha": _META,
    ".mhd": _META,
}
"""ITK's reader and our header reader; none of ITK's other formats holds a CT in HU."""


def declared(path: Path) -> tuple[str, Declared]:
    """The name of ITK's reader for a file, and what its header claims; raises `InputError`."""
    if unknown := foreign_name(path):
        raise InputError(unknown)
    name = path.name.lower()
    for suffix, (reader, claim) in READERS.items():
        if name.endswith(suffix):
            try:
                return reader, claim(path)
            except OSError as error:
                raise InputError(
                    f"{path} cannot be read ({error.strerror or error}): change its permissions or "
                    "copy it again"
                ) from error
    raise InputError(
        f"{path} is no CT volume that pmtool reads; give a file whose name ends with "
        f"{', '.join(READERS)}"
    )


def foreign_name(path: Path) -> str | None:
    """A sentence on a name that ITK, which expects UTF-8, would miss or end the process for."""
    try:
        if os.fsencode(path).decode() == str(path):
            return None
    except UnicodeError:
        return f"{path} has a name that is not UTF-8; give it another name"
    return (
        f"{path} has a name in UTF-8, which this locale takes for something else; change the "
        "locale, as by PYTHONUTF8=1"
    )


def voxel_files(paths: Iterable[Path]) -> list[Path]:
    """Files beside image headers that hold their voxels."""
    files = []
    for path in paths:
        with suppress(InputError, OSError):
            if path.is_file() and (claim := declared(path)[1]).data != path:
                files.append(claim.data)
    return files
