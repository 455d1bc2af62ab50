"""Processes that work together."""

from __future__ import annotations

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
