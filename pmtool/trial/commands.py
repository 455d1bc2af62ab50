"""The work of `pmtool trial report` and `pmtool trial simulate`, and the text that they print."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pmtool.errors import UsageError
from pmtool.system.units import counted
from pmtool.trial.database import Database
from pmtool.trial.design import ITEMS
from pmtool.trial.folder import Trial
from pmtool.trial.report import Report, report_of, write_report
from pmtool.trial.results import Results
from pmtool.trial.simulation import (
    MOST_PARTICIPANTS,
    exact_power,
    needed_participants,
    simulate_answers,
    simulated_power,
)

_METHODS = 4
"""Number of methods in the paper besides PixelMiner: a participant sees three items with each."""
_TRIALS = 20_000


def report(folder: Path, out: Path) -> str:
    """Write a report on the answers that stand and return its text; raises `PmtoolError`."""
    trial = Trial.load(folder)
    with closing(Database(trial.database, only_reads=True)) as database:
        trial_report = report_of(trial, database)
    write_report(trial_report, out)
    return trial_report.to_text()


def simulate(
    folder: Path | None,
    out: Path | None,
    *,
    preference: float,
    power: float,
    correlation: float,
    participants: int,
    seed: int,
) -> str:
    """Compute the power of a trial, and report on simulated answers if a trial is given.

    Parameters
    ----------
    folder
        Folder of a trial; None to compute only the power.
    out
        Folder of the report on simulated answers.
    preference
        Probability that PixelMiner is chosen, for any other method.
    power
        Wanted probability of p < 0.05.
    correlation
        Correlation of two answers of one participant.
    participants
        Number of simulated participants.
    seed
        Seed of the random numbers.

    Raises
    ------
    UsageError
        If only one of the two folders is given.
    """
    if (folder is None) != (out is None):
        raise UsageError("a report on simulated answers needs both TRIAL and --out")
    parts = []
    if folder is not None and out is not None:
        parts.append(_simulated_report(folder, out, preference, correlation, participants, seed))
    parts.append(power_text(preference, power, correlation, participants, seed))
    return "\n\n".join(parts)


def _simulated_report(
    folder: Path, out: Path, preference: float, correlation: float, participants: int, seed: int
) -> str:
    trial = Trial.load(folder)
    preferences = dict.fromkeys(trial.methods, preference)
    answers = simulate_answers(trial, preferences, participants, seed, correlation)
    notice = (
        f"SIMULATED: nobody was asked; PixelMiner is chosen with probability {preference:g}, and "
        f"answers of a participant have a correlation of {correlation:g}."
    )
    simulated_report = Report(Results(answers, trial.methods), 0, trial.provenance, notice)
    write_report(simulated_report, out)
    return simulated_report.to_text()


def power_text(
    preference: float, power: float, correlation: float, participants: int, seed: int
) -> str:
    """Text on the number of participants needed, and on the power of a given number."""
    overall, against = (
        needed_participants(preference, power, each) for each in (ITEMS, ITEMS / _METHODS)
    )
    seen, false = (
        simulated_power(participants, share, correlation, _TRIALS, seed)
        for share in (preference, 0.5)
    )
    return (
        f"To see {100 * preference:g}% with a power of {100 * power:g}% (exact two-sided binomial "
        f"test, p < 0.05, independent answers) it takes {_people(overall)} of {ITEMS} answers, or "
        f"{_people(against)} to see it against each of {_METHODS} methods, without correction for "
        f"their number.\n{_people(participants)}: exact power "
        f"{exact_power(participants * ITEMS, preference):.1%}; simulated, with a correlation of "
        f"{correlation:g} between answers of a participant, {seen:.1%}, and {false:.1%} of fair "
        "coins are taken for a preference."
    )


def _people(number: int | None) -> str:
    """Text for a number of participants; None stands for more than are considered."""
    if number is None:
        return f"more than {counted(MOST_PARTICIPANTS, 'participant')}"
    return counted(number, "participant")
