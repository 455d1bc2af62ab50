"""Statistics on how often PixelMiner was chosen, and on how far participants agree."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, wilcoxon

CONFIDENCE = 0.95
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Share:
    """Number of wins among answers, which are assumed to be independent."""

    won: int
    answers: int

    @property
    def share(self) -> float | None:
        """Share of wins; None without answers."""
        return self.won / self.answers if self.answers else None

    @cached_property
    def p(self) -> float:
        """P value of the exact two-sided binomial test against one half; 1 without answers."""
        return float(binomtest(self.won, self.answers).pvalue) if self.answers else 1.0

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the share by Clopper and Pearson; (0, 1) without answers."""
        if not self.answers:
            return 0.0, 1.0
        bounds = binomtest(self.won, self.answers).proportion_ci(CONFIDENCE, "exact")
        return float(bounds.low), float(bounds.high)


class Agreement(NamedTuple):
    """Agreement of participants who saw the same pair of candidates.

    Attributes
    ----------
    pairs
        Number of pairs that two or more participants saw.
    answers
        Number of answers to these pairs.
    observed
        Probability that two participants agree on a pair; None without such pairs.
    kappa
        Fleiss' kappa: 0 is chance, 1 full agreement; None without such pairs, or if all answers are
        the same.
    """

    pairs: int
    answers: int
    observed: float | None
    kappa: float | None


def agreement(answers: Iterable[tuple[Hashable, bool]]) -> Agreement:
    """Fleiss' kappa of answers to pairs, for any number of participants per pair [1]_.

    If that number is the same for every pair, the result equals Fleiss' kappa of 1971 [2]_.

    References
    ----------
    .. [1] Fleiss and Cuzick 1979, Applied Psychological Measurement 3, 537-542.
    .. [2] Fleiss 1971, Psychological Bulletin 76, 378-382.
    """
    by_pair: dict[Hashable, list[bool]] = {}
    for pair, won in answers:
        by_pair.setdefault(pair, []).append(won)
    shared = [votes for votes in by_pair.values() if len(votes) > 1]
    if not shared:
        return Agreement(0, 0, None, None)
    n = np.array([len(votes) for votes in shared], np.float64)
    x = np.array([sum(votes) for votes in shared], np.float64)
    total = n.sum()
    disagreement = (x * (n - x) / n).sum() / (total - len(n))
    p = x.sum() / total
    observed = 1 - (2 * x * (n - x) / (n - 1)).sum() / total
    kappa = 1 - disagreement / (p * (1 - p)) if 0 < p < 1 else None
    return Agreement(len(n), int(total), float(observed), None if kappa is None else float(kappa))


def signed_rank(shares: Iterable[Share]) -> float:
    """Two-sided p value of Wilcoxon's test of the participants' shares against one half.

    Unlike the binomial test, it allows the answers of one participant to depend on each other.
    """
    # Wins minus losses per answer, so that equal shares are equal numbers and 7/12 ties with 5/12.
    leads = np.array([(2 * x.won - x.answers) / x.answers for x in shares])
    return float(wilcoxon(leads).pvalue) if leads.any() else 1.0


class Times(NamedTuple):
    """Quartiles of response times in seconds, and the number of answers."""

    answers: int
    lower: float
    median: float
    upper: float


def times(milliseconds: Sequence[int]) -> Times | None:
    """Compute the quartiles of response times; None if there are none."""
    if not milliseconds:
        return None
    lower, median, upper = np.percentile(np.asarray(milliseconds) / 1000, (25, 50, 75))
    return Times(len(milliseconds), float(lower), float(median), float(upper))
