"""NIfTI-1 and NIfTI-2 headers: https://nifti.nimh.nih.gov."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

from pmtool.images.headers.declared import Declared, Encoding, damaged

_FORMS = {
    348: (
        "dim 40 8h, type 70 h, bits 72 h, spacing 76 8f, offset 108 f, codes 252 2h, "
        "qform 256 6f, sform 280 12f",
        352,
    ),
    540: (
        "dim 16 8q, type 12 h, bits 14 h, spacing 104 8d, offset 168 q, codes 344 2i, "
        "qform 352 6d, sform 400 12d",
        544,
    ),
}
"""By header size: its fields, with their places and types, and the least offset of voxels."""
_LONGEST = 540
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32}
_BITS |= {1024: 64, 1280: 64, 1792: 128, 2304: 32}
"""Bits of a value, by the code of its type."""


def declared_nifti(path: Path) -> Declared:
    """The claim of a NIfTI file, gzipped or not; raises `InputError`."""
    packed = path.name.lower().endswith(".gz")
    try:
        with (gzip.open if packed else open)(path, "rb") as file:
            header = file.read(_LONGEST)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, "it cannot be unpacked", "NIfTI") from error
    order = next((o for o in "<>" if _size(header, o) in _FORMS), None)
    if order is None or len(header) < _size(header, order):
        raise damaged(path, "it does not begin as a NIfTI file", "NIfTI")
    form, least = _FORMS[_size(header, order)]
    values = {
        name: struct.unpack_from(order + kind, header, int(place))
        for name, place, kind in (field.split() for field in form.split(", "))
    }
    dimensions, *size = values["dim"]
    (code,), (bits,), (offset,) = values["type"], values["bits"], values["offset"]
    if not 1 <= dimensions <= 7:
        raise damaged(path, f"its header gives {dimensions} dimensions", "NIfTI")
    if _BITS.get(code) != bits:
        raise damaged(path, f"its voxels have type {code} and {bits} bits", "NIfTI")
    if not math.isfinite(offset) or not least <= offset < 2**31:
        raise damaged(path, f"its voxels start at byte {offset:g}", "NIfTI")
    if not all(map(math.isfinite, values["spacing"][: dimensions + 1])):
        raise damaged(path, "its spacing is not finite", "NIfTI")
    for form, code in zip(("qform", "sform"), values["codes"], strict=True):
        # ITK reads numbers that are none as zeros.
        if code > 0 and not all(map(math.isfinite, values[form])):
            raise damaged(path, f"its {form} is not finite", "NIfTI")
    encoding: Encoding = "gzip" if packed else "raw"
    shape = tuple(size[:dimensions])
    return Declared(
        path,
        shape,
        bits // 8,
        path,
        int(offset),
        encoding,
        packed_whole=packed,
        has_spacing=all(values["spacing"][1:4]),
    )


def _size(header: bytes, order: str) -> int:
    return int(struct.unpack_from(order + "i", header)[0]) if len(header) >= 4 else 0
