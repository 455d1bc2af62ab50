"""NRRD headers: http://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from pmtool.errors import InputError
from pmtool.images.headers.declared import NO_SPACING, Declared, Encoding, damaged, units_fault
from pmtool.images.headers.text import beside, header_lines, whole_numbers

_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), 1),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), 2),
    **dict.fromkeys(("int16", "int16_t", "ushort", "unsigned short", "unsigned short int"), 2),
    **dict.fromkeys(("uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), 4),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t", "float"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long"), 8),
    **dict.fromkeys(("signed long long int", "int64", "int64_t", "ulonglong"), 8),
    **dict.fromkeys(("unsigned long long", "unsigned long long int", "uint64", "uint64_t"), 8),
    "double": 8,
}
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw",
    **dict.fromkeys(("gz", "gzip"), "gzip"),
    **dict.fromkeys(("txt", "text", "ascii", "hex"), "text"),
}


def declared_nrrd(path: Path) -> Declared:
    """The claim of an NRRD file; raises `InputError`."""
    lines, start = header_lines(path, lambda line: not line.strip())
    if not lines or not re.match(r"NRRD000\d\s*$", lines[0]):
        raise damaged(path, "it does not begin as one", "NRRD")
    fields = _fields(path, lines[1:])
    if fields.get("encoding", "").lower() in ("bz2", "bzip2"):
        raise InputError(f"{path} is packed by bzip2, which ITK does not read; write it with gzip")
    try:
        size = whole_numbers(fields["sizes"])
        value_bytes = _BYTES[fields["type"].lower()]
        encoding = _ENCODINGS[fields["encoding"].lower()]
        skip = int(fields.get("byteskip", "0"))
    except (KeyError, ValueError) as error:
        raise damaged(path, f"its NRRD header lacks or garbles {error}") from error
    data, name = path, fields.get("datafile")
    if name is not None:
        data, start = beside(path, name), 0
    fault = _spacing_fault(fields, len(size))
    claim = partial(Declared, path, size, value_bytes, data, spacing_fault=fault)
    if encoding == "gzip":  # bytes are skipped after unpacking; -1 stands for the last ones
        return claim(start, encoding, packed_before=0 if skip == -1 else skip)
    return claim(None if skip == -1 else start + skip, encoding)


def _spacing_fault(fields: dict[str, str], dimensions: int) -> str:
    """See `Declared.spacing_fault`; axes beyond three, such as vectors or time, have no spacing."""
    spacings = fields.get("spacedirections") or fields.get("spacings", "")
    entries = re.findall(r"\([^)]*\)|[^\s()]+", spacings)
    entries = [spacing for spacing in entries if spacing.lower() not in ("none", "nan")]
    if len(entries) < min(dimensions, 3):
        return NO_SPACING
    units = f"{fields.get('units')} {fields.get('spaceunits')}"
    return units_fault(re.findall(r'"([^"]*)"', units))


def _fields(path: Path, lines: list[str]) -> dict[str, str]:
    """The fields by name, without spaces and in lower case; each may occur only once."""
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        is_entry = ":=" in line and ": " not in line.partition(":=")[0]
        if not colon or line.startswith("#") or is_entry:
            continue
        name = re.sub(r"\s", "", name).lower()
        if name in fields:
            raise damaged(path, f"its NRRD header gives {name} twice")
        fields[name] = value.strip()
    return fields
