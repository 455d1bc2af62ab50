"""NRRD headers: http://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import re
from pathlib import Path

from pmtool.images.headers.declared import Declared, Encoding, damaged
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
    **dict.fromkeys(("raw",), "raw"),
    **dict.fromkeys(("gz", "gzip"), "gzip"),
    **dict.fromkeys(("txt", "text", "ascii", "hex"), "text"),
}


def declared_nrrd(path: Path) -> Declared:
    """The claim of an NRRD file; raises `InputError`."""
    lines, start = header_lines(path, lambda line: not line.strip())
    if not lines or not re.match(r"NRRD000\d\s*$", lines[0]):
        raise damaged(path, "it does not begin as one", "NRRD")
    fields = _fields(path, lines[1:])
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
    spaced = "spacings" in fields or "spacedirections" in fields
    first = None if skip == -1 else start + skip
    return Declared(path, size, value_bytes, data, first, encoding, has_spacing=spaced)


def _fields(path: Path, lines: list[str]) -> dict[str, str]:
    """The fields by their names without spaces, in lower case; each may occur once."""
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = re.sub(r"\s", "", name).lower()
        if not colon or line.startswith("#") or value.startswith("="):
            continue
        if name in fields:
            raise damaged(path, f"its NRRD header gives {name} twice")
        fields[name] = value.strip()
    return fields
