"""Tests of pairs, their correction and intervals, against independent computations."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmtool.evaluation.statistics import bootstrap_interval, duel, holm


def test_counts() -> None:
    one = np.array([1.0, 2.0, 3.0, np.nan, 5.0])
    other = np.array([2.0, 2.0, 1.0, 1.0, 6.0])
    found = duel(one, other)
    assert found[:4] == (2, 1, 1, 1)
    assert found.share == pytest.approx(2 / 3)
    nothing = duel(one, one)
    assert nothing[:4] == (0, 0, 4, 1)
    assert nothing.share is None
    assert nothing.binomial == nothing.wilcoxon == 1


@given(st.integers(0, 12), st.integers(0, 12))
def test_binomial_p_value(wins: int, losses: int) -> None:
    total = wins + losses
    difference = np.array([-1.0] * wins + [1.0] * losses) * np.arange(1.0, total + 1)
    tail = sum(math.comb(total, k) for k in range(min(wins, losses) + 1)) / 2**total
    expected = min(2 * tail, 1.0)
    assert duel(difference, np.zeros(total)).binomial == pytest.approx(expected)


def test_wilcoxon_p_value() -> None:
    difference = np.array([-3.0, 1.0, -5.0, -2.0, -7.0, 4.0, -6.0])
    ranks = np.arange(1, 8)  # of abs(difference), here the value itself
    lower = min(ranks[np.isin(ranks, np.abs(difference[difference > 0]))].sum(), 23)
    as_extreme = sum(
        np.dot(signs, ranks) <= lower for signs in product((0, 1), repeat=len(difference))
    )
    found = duel(difference, np.zeros(7))
    assert found.wilcoxon == pytest.approx(2 * as_extreme / 2**7)


def test_holm() -> None:
    # Holm 1979 steps down: 0.005 * 4, 0.01 * 3, then 0.03 * 2, and the last is not below it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


def test_interval_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(10, 2, 400)
    interval = bootstrap_interval(lambda drawn: float(values[drawn].mean()), 400)
    assert interval is not None
    half = 1.96 * values.std() / 20
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert bootstrap_interval(lambda drawn: 1.0, 1) is None
