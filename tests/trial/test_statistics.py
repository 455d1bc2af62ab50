"""Figures of the human trial, against closed forms; the paper's; power."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import comb

import numpy as np
import pytest

from pmtool.trial import paper
from pmtool.trial.simulation import (
    critical_wins,
    exact_power,
    needed_participants,
    simulated_power,
)
from pmtool.trial.statistics import Share, agreement, signed_rank, times

pytest.importorskip("scipy")


def tail(wins: int, n: int, p: float = 0.5) -> float:
    """Probability of as many wins or more."""
    return sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(wins, n + 1))


@pytest.mark.parametrize(("won", "n"), [(101, 140), (9, 10), (7, 12), (39, 140), (5, 10)])
def test_binomial(won: int, n: int) -> None:
    share = Share(won, n)
    assert share.p == pytest.approx(min(1, 2 * tail(max(won, n - won), n)))
    low, high = share.interval
    assert tail(won, n, low) == pytest.approx(0.025)
    assert 1 - tail(won + 1, n, high) == pytest.approx(0.025)


def test_extremes() -> None:
    assert Share(0, 0) == Share(0, 0)
    assert (Share(0, 0).share, Share(0, 0).p, Share(0, 0).interval) == (None, 1, (0, 1))
    assert Share(12, 12).interval == pytest.approx((0.025 ** (1 / 12), 1))


Counts = dict[str, Share]


def consistent_counts() -> Iterator[Counts]:
    """All counts of the paper's answers, by method, that are printed as its shares."""
    *names, last = paper.BY_METHOD
    found = {name: printed_as(text) for name, text in paper.BY_METHOD.items()}
    for shares in product(*(found[name] for name in names)):
        left = paper.ANSWERS - sum(share.answers for share in shares)
        for share in found[last]:
            if share.answers == left:
                yield dict(zip(paper.BY_METHOD, (*shares, share), strict=True))


def printed_as(text: str) -> list[Share]:
    every = (Share(won, n) for n in range(1, paper.ANSWERS) for won in range(n + 1))
    return [share for share in every if printed(share, text)]


def printed(share: Share, text: str) -> bool:
    """Whether a share is printed as ``text``, in percent with as many digits."""
    digits = len(text.partition(".")[2])
    return share.share is not None and f"{100 * share.share:.{digits}f}" == text


class TestPaper:
    """Section 3.4: 140 comparisons, 72 %; 68.2, 70, 75 and 96.3 % against the methods."""

    def test_overall(self) -> None:
        """A single count is printed as 72 %, and its p is below the paper's 0.01."""
        (won,) = (x for x in range(141) if printed(Share(x, 140), paper.OVERALL))
        assert won == 101
        assert Share(won, 140).p == pytest.approx(1.6e-7, rel=0.01)

    def test_the_shares_do_not_fit_to_the_overall_one(self) -> None:
        found = [counts.values() for counts in consistent_counts()]
        assert found
        assert min(sum(share.won for share in counts) for counts in found) == 104  # 74.3 %
        assert min(counts["linear"].answers for counts in consistent_counts()) == 27
        assert "74 %" in paper.INCONSISTENT

    def test_the_shares_and_their_p_values_fit_to_each_other(self) -> None:
        """Two ways of counting give all printed shares with all p < 0.05."""
        fitting = [x for x in consistent_counts() if all(s.p < 0.05 for s in x.values())]
        counts = [{name: (s.won, s.answers) for name, s in x.items()} for x in fitting]
        expected = {"nearest": (30, 44), "linear": (26, 27)}
        assert counts == [
            {**expected, "bspline": (23, 33), "windowed_sinc": (27, 36)},
            {**expected, "bspline": (26, 37), "windowed_sinc": (24, 32)},
        ]


def fleiss(table: list[tuple[int, int]]) -> float:
    """Fleiss 1971, word by word: the same number of raters on every subject, two categories."""
    n, subjects = sum(table[0]), len(table)
    per_subject = [(sum(x * x for x in row) - n) / (n * (n - 1)) for row in table]
    shares = [sum(row[j] for row in table) / (n * subjects) for j in (0, 1)]
    mean, chance = sum(per_subject) / subjects, sum(share**2 for share in shares)
    return (mean - chance) / (1 - chance)


class TestAgreement:
    def test_fleiss(self) -> None:
        table = [(5, 1), (3, 3), (6, 0), (0, 6), (4, 2)]
        votes = [(i, j == 0) for i, row in enumerate(table) for j in (0, 1) for _ in range(row[j])]
        found = agreement(votes)
        assert found.kappa == pytest.approx(fleiss(table))
        assert found[:2] == (5, 30)

    def test_unequal_numbers_of_participants(self) -> None:
        """By hand: 2 of 2, 1 of 4 and 0 of 2; x (n - x) / n adds up to 3/4, N - I is 5."""
        votes = [("a", True)] * 2 + [("b", True)] + [("b", False)] * 3 + [("c", False)] * 2
        found = agreement(votes)
        assert found.kappa == pytest.approx(1 - (3 / 4 / 5) / (3 / 8 * 5 / 8))
        assert found.observed == pytest.approx((2 * 1 + 4 * 0.5 + 2 * 1) / 8)

    def test_chance_is_zero_and_unanimity_one(self) -> None:
        rng = np.random.default_rng(0)
        votes = [(pair, bool(rng.random() < 0.7)) for pair in range(3000) for _ in range(3)]
        kappa = agreement(votes).kappa
        assert kappa is not None
        assert abs(kappa) < 0.03
        assert agreement([(0, True)] * 3 + [(1, False)] * 2).kappa == pytest.approx(1)

    def test_what_is_not_known(self) -> None:
        assert agreement([(0, True), (1, False)]) == (0, 0, None, None)
        assert agreement([(0, True), (0, True)]) == (1, 2, 1, None)


def test_participants_and_times() -> None:
    assert signed_rank([Share(6, 12), Share(1, 2)]) == 1
    preferred = [Share(won, 20) for won in (12, 13, 14, 15, 16, 18)]
    assert signed_rank(preferred) == pytest.approx(2 / 2**6)
    symmetric = [Share(7, 12), Share(5, 12), Share(14, 24), Share(10, 24)]
    assert signed_rank(symmetric) == 1
    assert times([]) is None
    assert times([1000, 2000, 3000, 4000, 5000]) == (5, 2, 3, 4)


class TestPower:
    @pytest.mark.parametrize(("n", "p"), [(60, 0.72), (36, 0.9), (5, 0.8), (24, 0.5)])
    def test_exact(self, n: int, p: float) -> None:
        """The sum of the probabilities of all counts whose own test gives p < 0.05."""
        chances = (comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1))
        expected = sum(x for k, x in enumerate(chances) if Share(k, n).p < 0.05)
        assert exact_power(n, p) == pytest.approx(expected)

    def test_the_papers_share_needs_five_participants(self) -> None:
        assert needed_participants(0.72, 0.9) == 5
        assert exact_power(48, 0.72) < 0.9 < exact_power(60, 0.72)
        assert needed_participants(0.72, 0.9, each=3) == 17
        assert needed_participants(0.28, 0.9) == 5

    def test_too_near_to_a_coin(self) -> None:
        assert needed_participants(0.501, 0.9) is None

    def test_no_number_of_wins_may_be_enough(self) -> None:
        assert critical_wins(5) == 6
        assert exact_power(5, 0.8) == 0

    def test_simulated(self) -> None:
        """Three standard errors of 20,000 trials; correlation costs power and honesty."""
        assert simulated_power(5, 0.72, 0, 20_000, 1) == pytest.approx(0.909, abs=0.006)
        assert simulated_power(5, 0.72, 0.1, 20_000, 1) < 0.85
        assert simulated_power(5, 0.5, 0, 20_000, 1) < 0.05
        assert simulated_power(5, 0.5, 0.1, 20_000, 1) > 0.1
