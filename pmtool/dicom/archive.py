"""Unpacking zip files into an empty folder."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from pmtool.errors import InputError, PmtoolError
from pmtool.system.limits import check_disk, check_input, check_unpacked


@contextmanager
def unpacked(archive: Path, allow_large: bool) -> Iterator[Path]:
    """Provide the contents of a zip file in a new temporary folder, for as long as it is needed.

    Errors raised inside the context name files as if the zip were a folder.

    Raises
    ------
    InputError
        If the file is damaged or encrypted, or holds links or paths that lead outside the folder.
    MemoryBudgetError, OutputError
        If it unpacks to more than `pmtool.system.limits` or the disk allows.
    """
    if archive.exists() and not archive.is_file():  # a pipe or a device, which may have no end
        raise InputError(f"{archive} is not a file; give a zip of DICOM files")
    with tempfile.TemporaryDirectory(prefix="pmtool-") as name:
        try:
            with zipfile.ZipFile(archive) as file:
                _extract(file, archive, Path(name), allow_large)
        except (PmtoolError, MemoryError):
            raise
        except Exception as error:  # zipfile may raise any exception
            raise InputError(
                f"{archive} cannot be unpacked to {name} ({error}): copy it again, or make room"
            ) from error
        try:
            yield Path(name)
        except PmtoolError as error:
            raise type(error)(str(error).replace(name, str(archive))) from error


def _extract(file: zipfile.ZipFile, archive: Path, folder: Path, allow_large: bool) -> None:
    members = [member for member in file.infolist() if not member.is_dir()]
    places = [_place(member, archive) for member in members]
    for member in members:
        if member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            name = f"{member.filename} in {archive}"
            check_unpacked(name, member.compress_size, member.file_size)
    size = sum(member.file_size for member in members)
    check_input(str(archive), size, allow_large=allow_large)
    check_disk({folder / "all": size})
    for member, place in zip(members, places, strict=True):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with file.open(member) as packed, path.open("xb") as plain:
            shutil.copyfileobj(packed, plain)  # at most the size that was checked


def _place(member: zipfile.ZipInfo, archive: Path) -> Path:
    """Path of a member in the folder; slashes and backslashes both separate its parts."""
    path = PureWindowsPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if path.anchor or ".." in path.parts:
        reason = "leads out of its folder"
    elif kind not in (0, stat.S_IFREG):
        reason = "is a link or a device"
    elif member.flag_bits & 1:
        reason = "is encrypted"
    else:
        return Path(*path.parts)
    raise InputError(f"{member.filename} in {archive} {reason}; give the unpacked folder")
