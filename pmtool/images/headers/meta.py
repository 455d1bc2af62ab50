"""MetaImage headers: https://itk.org/Wiki/ITK/MetaIO/Documentation."""

from __future__ import annotations

import sys
from pathlib import Path

from pmtool.images.headers.declared import NO_SPACING, Declared, Encoding, damaged, units_fault
from pmtool.images.headers.text import beside, header_lines, whole_numbers

_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
_LAST = "ElementDataFile"
_LONGEST, _LONGEST_OWN = 8192, 255
"""Most characters in a value, and in a value that MetaIO may copy into an array of that length."""
_OWN = (
    *("ObjectType", "ObjectSubType", "Name", "Comment", "TransformType", "AcquisitionDate"),
    *("AnatomicalOrientation", "DistanceUnits", "Modality", "ElementType", _LAST),
    *("BinaryData", "CompressedData", "ElementByteOrderMSB", "BinaryDataByteOrderMSB"),
)


def declared_meta(path: Path) -> Declared:
    """The claim of a MetaImage file; raises `InputError`."""
    lines, start = header_lines(path, lambda line: line.split("=")[0].strip() == _LAST)
    fields = _fields(path, lines)
    try:
        dimensions, size = int(fields["NDims"]), whole_numbers(fields["DimSize"])
        channels = int(fields.get("ElementNumberOfChannels", "1"))
        value_bytes = _BYTES[fields["ElementType"]]
        name, skip = fields[_LAST], int(fields.get("HeaderSize", "0"))
        packed_bytes = int(fields.get("CompressedDataSize", "0"))
    except (KeyError, ValueError) as error:
        raise damaged(path, f"its header lacks or garbles {error}") from error
    if dimensions != len(size) or not 1 <= dimensions <= 10:
        raise damaged(path, f"{dimensions} dimensions and {len(size)} sizes")
    data = path
    if name.upper() != "LOCAL":
        data, start = beside(path, name), 0
    packed = _true(fields.get("CompressedData", "False"))
    textual = not _true(fields.get("BinaryData", "True"))
    encoding: Encoding = "deflate" if packed else "text" if textual else "raw"
    skipped = None if skip == -1 else start + skip
    spaced = "ElementSpacing" in fields or "ElementSize" in fields
    fault = units_fault([fields.get("DistanceUnits", "")]) if spaced else NO_SPACING
    shape = (channels, *size)
    return Declared(
        path,
        shape,
        value_bytes,
        data,
        skipped,
        encoding,
        packed_bytes=packed_bytes if packed_bytes > 0 else sys.maxsize,
        spacing_fault=fault,
    )


def _fields(path: Path, lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        name, equals, value = (part.strip() for part in line.partition("="))
        most = _LONGEST_OWN if name in _OWN else _LONGEST
        if not equals or len(value) > most or name in fields:
            raise damaged(path, f"see the line {line[:40]!r}", "MetaImage")
        fields[name] = value
    return fields


def _true(value: str) -> bool:
    return value[:1].upper() in ("T", "1")
