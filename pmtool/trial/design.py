"""Who sees what: for every participant 12 items, balanced and reproducible by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from pmtool.errors import UsageError

ITEMS = 12
"""Slices that a participant sees, as in the paper; even, so that sides can be balanced."""

Side = Literal["left", "right"]
T = TypeVar("T")


class Item(NamedTuple):
    """A slice shown with two candidates.

    Attributes
    ----------
    slice
        Number of the slice in the trial's pool.
    other
        The method compared with PixelMiner.
    side
        Side of PixelMiner's slice.
    """

    slice: int
    other: str
    side: Side


Plan = list[Item]
"""What a participant sees, in order."""


def make_plans(slices: int, methods: Sequence[str], participants: int, seed: int) -> list[Plan]:
    """Plans of all participants (paper, section 2.5.3).

    Every plan has different slices, every method at least once, and PixelMiner on the left in half
    of the items. Over any number of first participants, slices and methods are shown equally often
    or once more or less; a method's left and right differ by little; and pairs of a slice and a
    method are spread as far as this allows. The plans for fewer participants are the first ones of
    those for more.

    Parameters
    ----------
    slices
        Size of the pool.
    methods
        PixelMiner's opponents.

    Raises
    ------
    UsageError
        For fewer slices than items, or for more methods than items or none.
    """
    if slices < ITEMS:
        raise UsageError(
            f"a participant sees {ITEMS} different slices and there are {slices}; give more or "
            "larger scans, or more --slices"
        )
    if not 1 <= len(methods) <= ITEMS:
        raise UsageError(f"a trial compares PixelMiner with 1 to {ITEMS} methods")
    dealer = _Dealer(slices, methods, seed)
    return [dealer.plan(number) for number in range(participants)]


class _Dealer:
    """Deals what was dealt least, and draws among equals at random."""

    def __init__(self, slices: int, methods: Sequence[str], seed: int) -> None:
        self.slices, self.methods = slices, methods
        self.rng = np.random.default_rng(seed)
        self.shown: Counter[int] = Counter()
        self.paired: Counter[tuple[int, str]] = Counter()
        self.lead: Counter[str] = Counter()  # by method, left less right

    def plan(self, number: int) -> Plan:
        hand = self._rarest_first(range(self.slices), self.shown)[:ITEMS]
        others = self._others(number)
        sides = self._sides(Counter(others))
        items = []
        for other in self._shuffled(others):
            uses = Counter({index: self.paired[index, other] for index in hand})
            index = self._rarest_first(hand, uses)[0]
            hand.remove(index)
            self.shown[index] += 1
            self.paired[index, other] += 1
            items.append(Item(index, other, sides[other].pop()))
        return self._shuffled(items)

    def _others(self, number: int) -> list[str]:
        """Each method equally often; what is left goes around from participant to participant."""
        each, extra = divmod(ITEMS, len(self.methods))
        turns = range(number * extra, (number + 1) * extra)
        return [*self.methods] * each + [self.methods[i % len(self.methods)] for i in turns]

    def _sides(self, counts: Counter[str]) -> dict[str, list[Side]]:
        """Sides by method; if a number is odd, the method with the smaller lead gets the left."""
        odd = [method for method, count in counts.items() if count % 2]
        odd = self._rarest_first(odd, self.lead)
        left = set(odd[: len(odd) // 2])
        self.lead.update({method: 1 if method in left else -1 for method in odd})
        sides: dict[str, list[Side]] = {}
        for method, count in counts.items():
            lefts = count // 2 + (method in left)
            both: list[Side] = ["left"] * lefts
            both += ["right"] * (count - lefts)
            sides[method] = self._shuffled(both)
        return sides

    def _rarest_first(self, values: Iterable[T], counts: Counter[T]) -> list[T]:
        return sorted(self._shuffled(list(values)), key=lambda value: counts[value])

    def _shuffled(self, values: Sequence[T]) -> list[T]:
        return [values[i] for i in self.rng.permutation(len(values))]
