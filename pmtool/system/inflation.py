"""Size of compressed data, measured without storing the result."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

_CHUNK = 1 << 16
_GZIP = 31
"""zlib's code for gzipped streams only."""


def inflated_size(
    path: Path,
    start: int,
    enough: int,
    wbits: int = 47,
    several: bool = False,
    most: int = sys.maxsize,
) -> int:
    """Bytes that a deflated stream unpacks to; counting stops at ``enough``.

    Parameters
    ----------
    wbits
        Parameter of zlib: 47 for gzip and zlib, -15 for a stream without a header.
    several
        Whether to count further gzipped streams, as written by bgzip and pgzip.
    most
        Largest number of bytes to read from the file.
    """
    unpacker, size, ended = zlib.decompressobj(wbits), 0, 0
    with path.open("rb") as file:
        file.seek(start)
        try:
            while size < enough and (chunk := file.read(min(_CHUNK, most))):
                most -= len(chunk)
                while chunk and size < enough and (several or not unpacker.eof):
                    if unpacker.eof:
                        unpacker, ended = zlib.decompressobj(_GZIP), size
                    size += len(unpacker.decompress(chunk, _CHUNK))
                    chunk = unpacker.unconsumed_tail or unpacker.unused_data
        except zlib.error:
            return ended
    return size
