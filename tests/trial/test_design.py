"""Who sees what in the human trial."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmtool.errors import UsageError
from pmtool.trial.design import ITEMS, Plan, make_plans

PAPER = ("linear", "nearest", "bspline", "windowed_sinc")


def spread(counts: Counter[object], values: object) -> int:
    numbers = [counts[value] for value in values]  # type: ignore[attr-defined]
    return max(numbers) - min(numbers)


def lefts(plans: list[Plan], method: str) -> int:
    """PixelMiner's left sides less its right ones."""
    sides = [item.side for plan in plans for item in plan if item.other == method]
    return sides.count("left") - sides.count("right")


@settings(max_examples=60, deadline=None)
@given(st.integers(ITEMS, 40), st.integers(1, ITEMS), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_every_plan_and_all_together_are_balanced(
    slices: int, methods: int, participants: int, seed: int
) -> None:
    names = [f"method {number}" for number in range(methods)]
    plans = make_plans(slices, names, participants, seed)
    assert len(plans) == participants
    for plan in plans:
        assert len({item.slice for item in plan}) == len(plan) == ITEMS
        assert {item.other for item in plan} == set(names)
        assert spread(Counter(item.other for item in plan), names) <= 1
        assert Counter(item.side for item in plan) == {"left": 6, "right": 6}
    items = [item for plan in plans for item in plan]
    assert spread(Counter(item.slice for item in items), range(slices)) <= 1
    assert spread(Counter(item.other for item in items), names) <= 1
    assert all(abs(lefts(plans, name)) <= 3 for name in names)


def test_the_papers_trial_is_balanced_exactly() -> None:
    plans = make_plans(24, PAPER, 16, 0)
    items = [item for plan in plans for item in plan]
    assert Counter(item.other for item in items) == dict.fromkeys(PAPER, 48)
    assert Counter(item.slice for item in items) == dict.fromkeys(range(24), 8)
    assert [lefts(plans, method) for method in PAPER] == [0, 0, 0, 0]
    pairs = Counter((item.slice, item.other) for item in items)
    assert max(pairs.values()) <= 4  # twice each on average
    assert len(pairs) >= 80  # of 96


def test_the_seed_decides_and_fewer_participants_see_the_same() -> None:
    plans = make_plans(20, PAPER, 9, 5)
    assert make_plans(20, PAPER, 9, 5) == plans
    assert make_plans(20, PAPER, 4, 5) == plans[:4]
    assert make_plans(20, PAPER, 9, 6) != plans


def test_order_and_sides_follow_no_rule() -> None:
    """At every place of the plans every method and both sides occur."""
    plans = make_plans(20, PAPER, 200, 1)
    for place in range(ITEMS):
        methods = Counter(plan[place].other for plan in plans)
        assert min(methods[name] for name in PAPER) > 25  # of 200, 50 expected
        assert 70 < sum(plan[place].side == "left" for plan in plans) < 130


@pytest.mark.parametrize(("slices", "methods"), [(ITEMS - 1, 4), (20, 0), (20, ITEMS + 1)])
def test_what_cannot_be_balanced_is_refused(slices: int, methods: int) -> None:
    with pytest.raises(UsageError):
        make_plans(slices, [str(number) for number in range(methods)], 3, 0)
