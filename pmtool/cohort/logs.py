"""The log of a cohort as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pmtool.errors import OutputError
from pmtool.system.files import writing

_BEGIN = b'{"time": '


@contextmanager
def json_log(path: Path | None) -> Iterator[None]:
    """Append the log to a file, one JSON object per line; does nothing without a path.

    Raises
    ------
    OutputError
        If the file cannot be written, or holds something else, such as a scan.
    """
    if path is None:
        yield
        return
    with writing(path):
        _check_log(path)
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_JsonFormatter())
    logger = logging.getLogger("pmtool.cohort")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()


def _check_log(path: Path) -> None:
    if not path.is_file():
        return
    with path.open("rb") as file:
        begin = file.read(len(_BEGIN))
    if begin not in (b"", _BEGIN):
        raise OutputError(f"{path} is not a log of pmtool cohort; name another file")


class _JsonFormatter(logging.Formatter):
    """Format a record as JSON: time (UTC), level, message and the record's ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        basic_fields = {
            "time": time,
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        return json.dumps({**basic_fields, **fields})
