"""SHA-256 of files, bytes and plain values, as hexadecimal digits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def file_hash(path: Path) -> str:
    """Hash of a file's content; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_hash(content: bytes) -> str:
    """Hash of bytes."""
    return hashlib.sha256(content).hexdigest()


def json_hash(value: Any) -> str:
    """Hash of plain JSON values, whatever the order of their keys."""
    return bytes_hash(json.dumps(value, sort_keys=True).encode())
