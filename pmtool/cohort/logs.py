"""How a cohort talks beside its log on standard error: a line of status, and a log in JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmtool.cli.console import say_anew
from pmtool.errors import OutputError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pmtool.cohort.progress import Progress

_logger = logging.getLogger("pmtool")


@contextmanager
def status_line(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A line below the log that is written anew, where standard error is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda progress: None
        return
    eraser = _Eraser()
    _logger.addHandler(eraser)  # before that of the narration
    try:
        yield lambda progress: say_anew(str(progress))
    finally:
        _logger.removeHandler(eraser)
        say_anew("")


def json_log(path: Path | None) -> AbstractContextManager[None]:
    """Append the log to a file, a JSON object a line; raises `OutputError`."""
    return nullcontext() if path is None else _json_log(path)


@contextmanager
def _json_log(path: Path) -> Iterator[None]:
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
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
    """Time (UTC), level, message, and the fields that a record carries."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": time, "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps({**told, **fields})


class _Eraser(logging.Handler):
    """Clears the line before others write theirs."""

    def emit(self, record: logging.LogRecord) -> None:
        say_anew("")
