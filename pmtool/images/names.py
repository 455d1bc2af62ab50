"""Names of image files, whose suffixes give their formats."""

from __future__ import annotations

from pathlib import Path

from pmtool.choices import FORMATS
from pmtool.errors import UsageError
from pmtool.images.headers import READERS, foreign_name
from pmtool.images.headers.text import names_one_file
from pmtool.system.files import resolved


def image_suffix(path: Path) -> str | None:
    """A file's suffix, with its dot, if it is that of a format that pmtool reads; else None."""
    name = path.name.lower()
    return max((suffix for suffix in READERS if name.endswith(suffix)), key=len, default=None)


def file_name(path: Path) -> str:
    """Name of a file or folder, without parent folders, even if it was given as a dot."""
    return path.name if path.name not in ("", "..") else resolved(path).name


def image_stem(path: Path) -> str:
    """A file's name without the suffix of a format."""
    return path.name[: len(path.name) - len(image_suffix(path) or "")]


def is_written(path: Path) -> bool:
    """Whether the suffix is that of a format that pmtool writes."""
    return (image_suffix(path) or "").removeprefix(".") in FORMATS


def written_suffix(path: Path) -> str:
    """A file's suffix if pmtool writes that format; otherwise the suffix of NRRD."""
    return (image_suffix(path) or "") if is_written(path) else ".nrrd"


def check_format(path: Path, also: str = "") -> None:
    """Raise `UsageError` if pmtool cannot write an image under this name.

    ``also`` is added to the message after the list of suffixes and says what else may be given.
    """
    if not is_written(path):
        raise UsageError(f"{path} names no image format; end it with .{', .'.join(FORMATS)}{also}")
    if not image_stem(path):
        raise UsageError(f"{path} is a suffix alone; give the file a name before it")
    if problem := foreign_name(path) or mixed_case(path):
        raise UsageError(problem)
    name = path.name
    plain = names_one_file(name) and name == name.strip() and name.isprintable()
    if image_suffix(path) == ".mhd" and not plain:
        raise UsageError(
            f"{path} cannot name its voxels in its header; leave out %, LIST, line breaks, and "
            "spaces at the ends"
        )


def plain_name(path: Path) -> str:
    """A file's name with its suffix in lower case."""
    return image_stem(path) + (image_suffix(path) or "")


def mixed_case(path: Path) -> str | None:
    """A sentence on a NIfTI suffix in mixed case, which the NIfTI library refuses."""
    suffix = image_suffix(path) or ""
    if not suffix.startswith(".nii") or path.name.endswith((suffix, suffix.upper())):
        return None
    return f"{path} has a suffix that readers of NIfTI do not know; call it {plain_name(path)}"
