"""The log of a cohort as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pmtool.system.files import writing


@contextmanager
def json_log(path: Path | None) -> Iterator[None]:
    """Append the log to a file, one JSON object per line; does nothing without a path.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    if path is None:
        yield
        return
    with writing(path):
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
