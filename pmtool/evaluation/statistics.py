"""Statistics to tell which of two methods is better, and how certain that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES, SEED = 1000, 0


class Duel(NamedTuple):
    """Comparison of pairs of errors of two methods.

    Attributes
    ----------
    wins, losses, ties
        Number of pairs in which the first method's error is lower, higher or the same.
    unknown
        Number of pairs with a NaN, which are not counted anywhere else.
    binomial, wilcoxon
        Two-sided p values of the tests; 1 if there is nothing to test.
    """

    wins: int
    losses: int
    ties: int
    unknown: int
    binomial: float
    wilcoxon: float

    @property
    def mirrored(self) -> Duel:
        """The same comparison with the two methods exchanged."""
        return self._replace(wins=self.losses, losses=self.wins)

    @property
    def share(self) -> float | None:
        """Share of wins among the pairs that are not ties; None if there are only ties."""
        decided = self.wins + self.losses
        return self.wins / decided if decided else None


def duel(one: NDArray[np.float64], other: NDArray[np.float64]) -> Duel:
    """Compare errors of two methods, pair by pair.

    The tests are a binomial test of the wins among the pairs that differ (the sign test) and a
    Wilcoxon signed-rank test of the differences; both leave out ties.
    """
    from scipy.stats import binomtest, wilcoxon

    finite = np.isfinite(one) & np.isfinite(other)
    difference = one[finite] - other[finite]
    wins, losses = int((difference < 0).sum()), int((difference > 0).sum())
    binomial = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    ranks = float(wilcoxon(difference).pvalue) if wins + losses else 1.0
    ties, unknown = difference.size - wins - losses, int((~finite).sum())
    return Duel(wins, losses, ties, unknown, binomial, ranks)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for multiple comparisons by Holm's method [1]_.

    The k-th lowest of n values is multiplied by n - k + 1, then raised to the largest before it if
    that is higher, and limited to 1.

    References
    ----------
    .. [1] Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return [float(x) for x in adjusted]


def bootstrap_interval(
    statistic: Callable[[NDArray[np.intp]], float], count: int
) -> tuple[float, float] | None:
    """95 % bootstrap percentile interval of a statistic of ``count`` units; always the same draws.

    Parameters
    ----------
    statistic
        Function that computes the statistic of the units at given indices, which may repeat.
    count
        Number of units.

    Returns
    -------
    tuple or None
        Lower and upper bound; None for fewer than two units, or if the statistic is NaN for all
        draws.
    """
    if count < 2:
        return None
    rng = np.random.default_rng(SEED)
    draws = np.array([statistic(rng.integers(0, count, count)) for _ in range(RESAMPLES)])
    finite = draws[np.isfinite(draws)]
    if not finite.size:
        return None
    low, high = np.percentile(finite, (2.5, 97.5))
    return float(low), float(high)
