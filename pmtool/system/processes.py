"""Processes that work together."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from pmtool.errors import UsageError


def check_processes(remedy: str) -> None:
    """Raise `UsageError` if processes cannot share locks, as without a writable ``/dev/shm``.

    ``remedy`` says how to do with one process.
    """
    try:
        get_context("spawn").Lock()
    except OSError as error:
        raise UsageError(
            "processes cannot work together here, because /dev/shm is missing or cannot be written "
            f"({error.strerror}); {remedy}"
        ) from error


@contextmanager
def started_without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from threads and processes that are started meanwhile, and from theirs.

    A terminal sends it to all processes of a command, which would each show a traceback.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
