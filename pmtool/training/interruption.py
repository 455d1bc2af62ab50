"""Handling Ctrl-C, SIGTERM and SIGHUP as requests to stop between two steps."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from pmtool.system.processes import ending_signals, leave_terminal_to_parent


class Interruption:
    """A context in which the first signal is only noted, in ``requested``.

    A second signal of the same kind has its previous effect.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._note) for number in ending_signals()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._before[number])


def leave_to_parent(worker: int) -> None:
    """Let the parent of a data-loading process, which gets the same signals, end it."""
    leave_terminal_to_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
