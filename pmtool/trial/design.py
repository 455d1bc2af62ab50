"""Design of a trial: 12 items for every participant, balanced and reproducible by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from pmtool.errors import UsageError

ITEMS = 12
"""Number of slices that a participant sees, as in the paper; it is even to balance the sides."""

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
"""Items that a participant sees, in order."""


def make_plans(slices: int, methods: Sequence[str], participants: int, seed: int) -> list[Plan]:
    """Make the plans of all participants (paper, section 2.5.3).

    Every plan has different slices, every method at least once, and PixelMiner on the left in half
    of the items. Among the first participants, however many, the numbers of times that slices and
    methods are shown differ by at most one; a method is on the left about as often as on the right;
    and pairs of a slice and a method are spread as evenly as this allows. Plans for fewer
    participants are the first of those for more.

    Parameters
    ----------
    slices
        Number of slices in the pool.
    methods
        Names of the methods that are compared with PixelMiner.
    participants
        Number of plans.
    seed
        Seed of the random numbers.

    Raises
    ------
    UsageError
        If there are fewer slices than items, more methods than items, or no methods.
    """
    if slices < ITEMS:
        raise UsageError(
            f"a participant sees {ITEMS} different slices and there are {slices}; give more or "
            f"larger scans, or at least {ITEMS} --slices if you gave fewer"
        )
    if not 1 <= len(methods) <= ITEMS:
        raise UsageError(f"a trial compares PixelMiner with 1 to {ITEMS} methods")
    dealer = _Dealer(slices, methods, seed)
    return [dealer.plan(number) for number in range(participants)]


class _Dealer:
    """Deals what has been dealt least often, breaking ties at random."""

    def __init__(self, slices: int, methods: Sequence[str], seed: int) -> None:
        self.slices, self.methods = slices, methods
        self.rng = np.random.default_rng(seed)
        self.shown: Counter[int] = Counter()
        self.paired: Counter[tuple[int, str]] = Counter()
        self.lead: Counter[str] = Counter()  # by method, left minus right

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
        """Other methods of a plan, each equally often; the rest rotates among participants."""
        each, extra = divmod(ITEMS, len(self.methods))
        turns = range(number * extra, (number + 1) * extra)
        return [*self.methods] * each + [self.methods[i % len(self.methods)] for i in turns]

    def _sides(self, counts: Counter[str]) -> dict[str, list[Side]]:
        """Sides by method; of methods with odd counts, those with the smallest lead get the left.

        The sides given are those of PixelMiner.
        """
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
