"""Output of a command to standard error: log, warnings, progress and errors."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from types import FrameType

import click

from pmtool.errors import escaped, exit_code, one_line, sentence
from pmtool.system.processes import ending_signals
from pmtool.system.stages import Tell
from pmtool.system.units import duration

INTERRUPTED = 130
_TIDYING_SECONDS = 30.0
LINE_SECONDS = 60.0
"""Time between two progress lines when there is no terminal."""


def run_command(
    command: click.Command, arguments: list[str] | None = None, *, ends: bool = False
) -> int:
    """Run a command and return its exit code; an error is reported in one sentence.

    Parameters
    ----------
    command
        The command.
    arguments
        Its arguments; by default those of the process.
    ends
        Whether the process exits afterwards; if so, Ctrl-C, SIGTERM and SIGHUP are ignored then.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_standard_streams()
    try:
        with _one_interrupt(ends):
            outcome = command.main(arguments, prog_name="pmtool", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        say(f"pmtool: {one_line(error.format_message())} (--help shows what can be given)")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("pmtool: interrupted")
        return INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            say(traceback.format_exc(), nl=False)
        say(f"pmtool: {sentence(error)}")
        return exit_code(error)


def say(text: str, nl: bool = True) -> None:
    """Print to standard error; a closed pipe does not stop the work."""
    with suppress(OSError):
        click.echo(text, err=True, nl=nl)


def say_anew(text: str) -> None:
    """Replace the terminal's last line with ``text``."""
    say(f"\r\033[K{text}", nl=False)


@contextmanager
def narration(quiet: bool, verbose: bool) -> Iterator[None]:
    """Show the package's log and warnings."""
    logger = logging.getLogger("pmtool")
    handler = _EchoHandler(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(handler.level)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_: say(f"warning: {escaped(str(message))}")
        try:
            yield
        finally:
            logger.setLevel(before)
            logger.removeHandler(handler)


@contextmanager
def status_line(quiet: bool) -> Iterator[Callable[[object], None] | None]:
    """Line below the log that is overwritten in place; None if there is no terminal.

    Enter it before `narration`, so that the line is cleared before the log writes.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    logger, eraser = logging.getLogger("pmtool"), _Eraser()
    logger.addHandler(eraser)
    try:
        yield lambda status: say_anew(str(status))
    finally:
        logger.removeHandler(eraser)
        say_anew("")


@contextmanager
def stages(quiet: bool) -> Iterator[Tell]:
    """Show log, warnings and stages: in a status line or, without a terminal, a line per stage."""
    last = ""
    with status_line(quiet) as show, narration(quiet, verbose=False):

        def tell(label: str, share: float) -> None:
            nonlocal last
            if show is not None:
                show(f"{label} {share:.0%}")
            elif not quiet and label != last:
                say(label)
            last = label

        yield tell


class SliceProgress:
    """Shows finished slices and the time left: always or, without a status line, once a minute.

    Slices of an earlier run, of which the first call tells, took none of this run's time.
    """

    def __init__(self, show: Callable[[object], None] | None) -> None:
        self.show = show
        self.first: float | None = None
        self.start = self.shown = 0.0

    def __call__(self, done: float, total: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = done
            self.start = self.shown = now
        text = f"{done:.1f} of {total} slices are generated"
        if done > self.first:
            left = (now - self.start) * (total - done) / (done - self.first)
            text += f", {duration(left)} left"
        if self.show is not None:
            self.show(text)
        elif now - self.shown >= LINE_SECONDS:
            say(text)
            self.shown = now


class _EchoHandler(logging.Handler):
    """Writes records to the current standard error stream."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        say(escaped(self.format(record)))


class _Eraser(logging.Handler):
    """Clears the status line before other handlers write."""

    def emit(self, record: logging.LogRecord) -> None:
        """Clear the line, whatever the record."""
        say_anew("")


@contextmanager
def _one_interrupt(ends: bool) -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run like Ctrl-C.

    Signals in the next `_TIDYING_SECONDS` are ignored, so that cleanup can finish. Later ones
    count, because a library that catches everything may have lost the first.
    """
    deaf_until = 0.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal deaf_until
        if time.monotonic() >= deaf_until:
            deaf_until = time.monotonic() + _TIDYING_SECONDS
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if ends else handler)


def _open_standard_streams() -> None:
    """Point closed streams at the null device, so that no other file takes their descriptors."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may not be valid text
