"""NIfTI-1 headers: https://nifti.nimh.nih.gov."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pmtool.errors import InputError
from pmtool.images.headers.declared import NO_SPACING, Declared, Encoding, damaged

_LENGTH, _NIFTI_2 = 348, 540
"""Length of a header, which is also its first value, in NIfTI-1 and in NIfTI-2."""
_FIELDS = {
    "dim": (40, "8h"),
    "type": (70, "h"),
    "bits": (72, "h"),
    "spacing": (76, "8f"),
    "offset": (108, "f"),
    "scaling": (112, "2f"),
    "codes": (252, "2h"),
    "qform": (256, "6f"),
    "sform": (280, "12f"),
}
"""Offsets and types of the fields that are read."""
_LEAST_SLOPE = 1e-12
"""Smaller slopes are errors; ITK treats the smallest ones as 1."""
_LEAST_OFFSET = 352
"""First byte at which voxels can start."""
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32}
_BITS |= {1024: 64, 1280: 64, 1792: 128, 2304: 32}
"""Bits of a value, by the code of its type."""
Fields = dict[str, tuple[Any, ...]]
"""Values by the names of `_FIELDS`."""


def declared_nifti(path: Path) -> Declared:
    """The claim of a NIfTI file, gzipped or not; raises `InputError`."""
    packed = path.name.lower().endswith(".gz")
    fields = _fields(path, packed)
    _check_voxels(path, fields)
    _check_numbers(path, fields)
    dimensions, *size = fields["dim"]
    (bits,), (offset,) = fields["bits"], fields["offset"]
    encoding: Encoding = "gzip" if packed else "raw"
    shape = tuple(size[:dimensions])
    return Declared(
        path,
        shape,
        bits // 8,
        path,
        0 if packed else int(offset),
        encoding,
        packed_before=int(offset) if packed else 0,
        spacing_fault=_spacing_fault(fields["spacing"][1:4]),
    )


def _fields(path: Path, packed: bool) -> Fields:
    """The values of `_FIELDS`; raises `InputError` unless the file begins like NIfTI-1."""
    try:
        with (gzip.open if packed else open)(path, "rb") as file:
            header = file.read(_LENGTH)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, "it cannot be unpacked", "NIfTI") from error
    if any(_size(header, order) == _NIFTI_2 for order in "<>"):
        raise InputError(f"{path} is NIfTI-2, which ITK does not read; write it as NIfTI-1")
    order = next((order for order in "<>" if _size(header, order) == _LENGTH), None)
    if order is None or len(header) < _LENGTH:
        raise damaged(path, "it does not begin as a NIfTI file", "NIfTI")
    return {
        name: struct.unpack_from(order + kind, header, place)
        for name, (place, kind) in _FIELDS.items()
    }


def _check_voxels(path: Path, fields: Fields) -> None:
    """Raise `InputError` if the header's dimensions, voxel type or offset are impossible."""
    (code,), (bits,), (offset,) = fields["type"], fields["bits"], fields["offset"]
    dimensions = fields["dim"][0]
    if not 1 <= dimensions <= 7:
        raise damaged(path, f"its header gives {dimensions} dimensions", "NIfTI")
    if _BITS.get(code) != bits:
        raise damaged(path, f"its voxels have type {code} and {bits} bits", "NIfTI")
    if not math.isfinite(offset) or not _LEAST_OFFSET <= offset < 2**31:
        raise damaged(path, f"its voxels start at byte {offset:g}", "NIfTI")


def _check_numbers(path: Path, fields: Fields) -> None:
    """Raise `InputError` for non-finite numbers, which ITK reads as zeros, and odd scalings."""
    if not all(map(math.isfinite, fields["spacing"][: fields["dim"][0] + 1])):
        raise damaged(path, "its spacing is not finite", "NIfTI")
    slope, intercept = fields["scaling"]
    scaled = slope != 0 and not math.isnan(slope)
    if scaled and not (math.isfinite(intercept) and _LEAST_SLOPE < abs(slope) < math.inf):
        raise damaged(path, f"it scales its values by {slope:g} and adds {intercept:g}", "NIfTI")
    for form, code in zip(("qform", "sform"), fields["codes"], strict=True):
        if code > 0 and not all(map(math.isfinite, fields[form])):
            raise damaged(path, f"its {form} is not finite", "NIfTI")


def _spacing_fault(spacing: Sequence[float]) -> str:
    if any(length < 0 for length in spacing):
        return "gives a negative spacing (pixdim); write the file again with a positive one"
    return "" if all(spacing) else NO_SPACING


def _size(header: bytes, order: str) -> int:
    return int(struct.unpack_from(order + "i", header)[0]) if len(header) >= 4 else 0
