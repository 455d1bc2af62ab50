"""Processes that work together."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from pmtool.errors import UsageError

_HANGUP = [] if sys.platform == "win32" else [signal.SIGHUP]
_FROM_TERMINAL = [signal.SIGINT, *_HANGUP]
"""Signals that a terminal sends to all processes of a command: for Ctrl-C and when it is closed."""


def ending_signals() -> list[signal.Signals]:
    """Signals that end a command: Ctrl-C, SIGTERM and, unless ``nohup`` has it ignored, SIGHUP."""
    hangups = [n for n in _HANGUP if signal.getsignal(n) is not signal.SIG_IGN]
    return [signal.SIGINT, signal.SIGTERM, *hangups]


def leave_terminal_to_parent() -> None:
    """Ignore the terminal's signals in a process whose parent heeds them and ends it."""
    for number in _FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)


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
    """Keep the terminal's signals from threads and processes started meanwhile, and from theirs.

    A terminal sends them to all processes of a command, which would each show a traceback.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
