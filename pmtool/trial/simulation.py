"""Simulated participants who choose PixelMiner with a given probability, for plans and tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from pmtool.trial.design import ITEMS
from pmtool.trial.folder import Trial
from pmtool.trial.results import Answer
from pmtool.trial.statistics import SIGNIFICANT

MOST_PARTICIPANTS = 500
"""Largest number of participants that is considered."""


def simulate_answers(
    trial: Trial,
    preferences: Mapping[str, float],
    participants: int,
    seed: int,
    correlation: float = 0.0,
) -> list[Answer]:
    """Simulate answers to a trial's items.

    Parameters
    ----------
    trial
        The trial.
    preferences
        Probability that PixelMiner is chosen, by the other method.
    participants
        Number of participants.
    seed
        Seed of the random numbers.
    correlation
        Correlation of two answers of one participant, see `simulated_power`.
    """
    rng = np.random.default_rng(seed)
    return [
        answer
        for number in range(1, participants + 1)
        for answer in _participant(trial, number, _own(preferences, correlation, rng), rng)
    ]


def _own(
    preferences: Mapping[str, float], correlation: float, rng: np.random.Generator
) -> Mapping[str, float]:
    """Draw a participant's own preferences, at the same quantile for all methods."""
    if not correlation:
        return preferences
    place = rng.random()
    return {x: float(beta.ppf(place, *_beta(p, correlation))) for x, p in preferences.items()}


def _beta(preference: float, correlation: float) -> tuple[float, float]:
    """Parameters of the distribution of the participants' own preferences."""
    scale = (1 - correlation) / correlation
    return preference * scale, (1 - preference) * scale


def _participant(
    trial: Trial, number: int, preferences: Mapping[str, float], rng: np.random.Generator
) -> Iterator[Answer]:
    for item, (slice_number, other, side) in enumerate(trial.plan(number), start=1):
        wins = rng.random() < preferences[other]
        chosen = side if wins else ("right" if side == "left" else "left")
        scan_slice = trial.slices[slice_number]
        who = (number, "simulated", 0)
        yield Answer(*who, item, *scan_slice, other, side, chosen, int(rng.gamma(4, 2000)), "")


def exact_power(answers: int, preference: float) -> float:
    """Probability that the exact two-sided binomial test of independent answers gives p < 0.05.

    Parameters
    ----------
    answers
        Number of answers.
    preference
        Probability that PixelMiner is chosen.
    """
    least = critical_wins(answers)
    return float(
        binom.sf(least - 1, answers, preference) + binom.cdf(answers - least, answers, preference)
    )


def critical_wins(answers: int) -> int:
    """Smallest number of wins above one half with p < 0.05; ``answers + 1`` if there is none."""
    return int(binom.isf(SIGNIFICANT / 2, answers, 0.5)) + 1


def needed_participants(preference: float, power: float, each: float = ITEMS) -> int | None:
    """Smallest number of participants from which the exact test always has the wanted power.

    It is None if `MOST_PARTICIPANTS` are too few.

    Parameters
    ----------
    preference
        Probability that PixelMiner is chosen.
    power
        Wanted probability of p < 0.05.
    each
        Number of answers per participant; the total is rounded down.
    """
    enough = takewhile(
        lambda participants: exact_power(int(participants * each), preference) >= power,
        range(MOST_PARTICIPANTS, 0, -1),
    )
    return min(enough, default=None)


def simulated_power(
    participants: int, preference: float, correlation: float, trials: int, seed: int
) -> float:
    """Share of simulated trials whose binomial test gives p < 0.05.

    Parameters
    ----------
    participants
        Number of participants.
    preference
        Mean of the participants' probabilities to choose PixelMiner.
    correlation
        Correlation of two answers of one participant: the participants' own probabilities have a
        beta distribution; with a correlation of 0, they are equal.
    trials
        Number of simulated trials.
    seed
        Seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    own: NDArray[np.float64] = np.full((trials, participants), preference)
    if correlation:
        own = rng.beta(*_beta(preference, correlation), own.shape)
    wins = rng.binomial(ITEMS, own).sum(axis=1)
    least = critical_wins(answers := participants * ITEMS)
    return float(np.mean((wins >= least) | (wins <= answers - least)))
