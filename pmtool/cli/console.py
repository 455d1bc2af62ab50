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
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from io import TextIOWrapper
from types import FrameType
from typing import Any, TextIO, cast

import click

from pmtool.errors import exit_code, one_line, plain, sentence
from pmtool.system.stages import ProgressOf, Tell
from pmtool.system.units import duration

INTERRUPTED = 130
_SIGNALS = signal.SIGINT, signal.SIGTERM
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
        Whether the process exits afterwards; if so, Ctrl-C and SIGTERM are ignored from then on.
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


def say(text: str = "", nl: bool = True) -> None:
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
        warnings.showwarning = lambda message, *_: say(f"warning: {plain(str(message))}")
        try:
            yield
        finally:
            logger.setLevel(before)
            logger.removeHandler(handler)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[ProgressOf | None]:
    """Show a progress bar with the time left on a terminal, or else an occasional line.

    Enter it before `narration`.
    """
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield _Lines()
        return
    bars: list[Any] = []
    with ExitStack() as stack:

        def end() -> None:
            stack.close()
            bars.clear()

        time_left = _TimeLeft()

        def tell(done: float, total: int) -> None:
            if not bars:  # not before the plan has been printed
                bar: Any = click.progressbar(
                    length=1000,
                    label="generating",
                    show_eta=False,  # click's own counts slices of an earlier run
                    item_show_func=lambda left: f"{duration(left)} left" if left else None,
                    file=cast(TextIO, _Told()),
                )
                bars.append(stack.enter_context(bar))
            steps = max(int(1000 * done / max(total, 1)) - bars[0].pos, 0)
            bars[0].update(steps, time_left(done, total))

        with _before_the_log(end):  # which would go on in the line of the bar
            yield tell


@contextmanager
def status_line(quiet: bool) -> Iterator[Callable[[object], None]]:
    """Status line below the log that is overwritten in place; shown only on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda status: None
        return
    with _before_the_log(_clear):
        try:
            yield lambda status: say_anew(str(status))
        finally:
            say_anew("")


@contextmanager
def stages(quiet: bool) -> Iterator[Tell]:
    """Show log, warnings and stages: one line per stage, or a status line on a terminal."""
    live, told = sys.stderr.isatty() and not quiet, ""

    def tell(label: str, share: float) -> None:
        nonlocal told
        if live:
            say_anew(f"{label} {share:.0%}")
        elif not quiet and label != told:
            say(label)
        told = label

    with _before_the_log(_clear) if live else nullcontext():
        try:
            with narration(quiet, verbose=False):
                yield tell
        finally:
            if live and told:
                say()


@contextmanager
def _before_the_log(act: Callable[[], None]) -> Iterator[None]:
    """Do something before the log writes; enter it before `narration`."""
    logger, handler = logging.getLogger("pmtool"), _Before(act)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _clear() -> None:
    """Clear the terminal's last line."""
    say_anew("")


class _TimeLeft:
    """Estimates the time left from the slices made since the first call, ignoring earlier ones."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.began = 0.0

    def __call__(self, done: float, total: int) -> float | None:
        """Seconds left; None before anything is done."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.began = done, now
        if done <= self.first:
            return None
        return (now - self.began) * (total - done) / (done - self.first)


class _Lines:
    """Prints the number of finished slices and the time left once a minute."""

    def __init__(self) -> None:
        self.time_left = _TimeLeft()
        self.told: float | None = None

    def __call__(self, done: float, total: int) -> None:
        now, left = time.monotonic(), self.time_left(done, total)
        if self.told is None:
            self.told = now
        if left is not None and now - self.told >= LINE_SECONDS:
            say(f"{done:.0f} of {total} slices are generated, {duration(left)} left")
            self.told = now


class _Told:
    """The file that click writes to; it passes everything on to `say`."""

    def write(self, text: str) -> None:
        say(text, nl=False)

    def flush(self) -> None:
        """Do nothing: `say` flushes."""

    def isatty(self) -> bool:
        return sys.stderr.isatty()


class _EchoHandler(logging.Handler):
    """Writes records to the current standard error stream."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        say(plain(self.format(record)))


class _Before(logging.Handler):
    """Does something before other handlers write."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self.act = act

    def emit(self, record: logging.LogRecord) -> None:
        """Do it, whatever the record."""
        self.act()


@contextmanager
def _one_interrupt(ends: bool) -> Iterator[None]:
    """Let SIGTERM end a run like Ctrl-C; later signals are ignored so that cleanup can finish."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, _ignore)
        raise KeyboardInterrupt

    before = [signal.signal(number, interrupt) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, signal.SIG_IGN if ends else handler)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Ignore a signal; with SIG_IGN, Python prints a traceback for one that is already pending."""


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
