import io
import logging
import signal
import sys
import warnings
from contextlib import suppress

import click
import pytest

from pmtool.cli.console import (
    INTERRUPTED,
    SliceProgress,
    narration,
    run_command,
    stages,
    status_line,
)
from pmtool.cohort.progress import Tally
from pmtool.main import cli


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: found[0])
    return found


def test_a_status_line_is_for_terminals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with status_line(quiet=False) as show:
        assert show is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with status_line(quiet=True) as show:
        assert show is None
    assert capsys.readouterr() == ("", "")


def test_progress_without_a_terminal_is_a_line_a_minute(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    progress = SliceProgress(None)
    for clock[0], done in ((100.0, 2), (130.0, 2.5), (160.0, 3), (170.0, 3.5), (220.0, 5)):
        progress(done, 6)
    assert capsys.readouterr().err.splitlines() == [
        "3.0 of 6 slices are generated, 3 min left",
        "5.0 of 6 slices are generated, 40 s left",
    ]


def test_the_time_left_is_that_of_this_run(clock: list[float]) -> None:
    """Slices of an earlier run that is resumed took none of its time."""
    told: list[object] = []
    progress = SliceProgress(told.append)
    for clock[0], done in ((100.0, 90), (700.0, 91), (1300.0, 92)):
        progress(done, 100)
    assert told == [
        "90.0 of 100 slices are generated",
        "91.0 of 100 slices are generated, 1.5 h left",
        "92.0 of 100 slices are generated, 80 min left",
    ]


def test_the_log_stands_above_the_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with stages(quiet=False) as tell:
        tell("reading", 0)
        logging.getLogger("pmtool").info("the plan")
        tell("scoring", 0.5)
    assert capsys.readouterr().err.split("\r\033[K") == [
        "", "reading 0%", "the plan\n", "scoring 50%", ""
    ]  # fmt: skip


class ClosedTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_goes_away_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", ClosedTerminal())
    with stages(quiet=False) as tell:
        tell("reading", 0.5)
    with status_line(quiet=False) as show:
        assert show is not None
        show(Tally({"a": None}))


@pytest.mark.parametrize("arguments", [[], ["trial"]])
def test_without_a_command_the_help_is_shown(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(cli, arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Usage: pmtool")
    assert "Commands:" in lines


def test_names_do_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with narration(quiet=False, verbose=False):
        logging.getLogger("pmtool").info("wrote \x1b[2Jü.nrrd")
        warnings.warn("a\rb", stacklevel=1)
    assert run_command(cli, ["info", "model\r\x9b31m"]) == 3
    assert capsys.readouterr().err.splitlines() == [
        r"wrote \x1b[2Jü.nrrd",
        r"warning: a\rb",
        r"pmtool: no model was found in model\r\x9b31m: manifest.json is missing; "
        "give a folder that pmtool export has written",
    ]


@pytest.mark.parametrize(("ignored", "code"), [(False, INTERRUPTED), (True, 0)])
def test_a_closed_terminal_ends_a_command_unless_nohup_started_it(ignored: bool, code: int) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    hangup = click.Command("hangup", callback=lambda: signal.raise_signal(signal.SIGHUP))
    try:
        assert run_command(hangup, []) == code
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("seconds", "code"), [(60.0, 0), (0.0, INTERRUPTED)])
def test_a_second_interrupt_counts_if_the_first_was_lost(
    seconds: float, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first, it is ignored: what ended the work may still be tidying up."""

    @click.command()
    def deaf() -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("pmtool.cli.console._TIDYING_SECONDS", seconds)
    assert run_command(deaf, []) == code
