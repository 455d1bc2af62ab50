"""The answers of a trial and everything that is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

from pmtool.evaluation.methods import PIXELMINER
from pmtool.evaluation.statistics import holm
from pmtool.trial.database import Database
from pmtool.trial.design import ITEMS, Side
from pmtool.trial.folder import Trial
from pmtool.trial.statistics import Agreement, Share, Times, agreement, signed_rank, times

K = TypeVar("K", int, str)


class Answer(NamedTuple):
    """A participant's answer to one item.

    Attributes
    ----------
    participant, speciality, years
        Number, speciality and years of experience of the participant.
    item
        Number of the item in the participant's plan, from 1.
    scan, slice
        Scan and index of the slice that was shown.
    other
        Method that was compared with PixelMiner.
    pixelminer
        Side of PixelMiner's slice.
    chosen
        Side that was chosen as more like the truth.
    milliseconds
        Time from the display of the slices to the answer.
    answered
        Time of the answer, in UTC, ISO 8601; empty in a simulation.
    """

    participant: int
    speciality: str
    years: int
    item: int
    scan: str
    slice: int
    other: str
    pixelminer: Side
    chosen: Side
    milliseconds: int
    answered: str

    @property
    def won(self) -> bool:
        """Whether PixelMiner was chosen."""
        return self.chosen == self.pixelminer

    @property
    def method(self) -> str:
        """Method that was chosen."""
        return PIXELMINER if self.won else self.other


def collect(trial: Trial, database: Database) -> list[Answer]:
    """Collect all answers that stand."""
    answers = database.answers()  # first, so that people who enrol meanwhile are left out
    participants = {participant.id: participant for participant in database.participants()}
    collected = []
    for stored in answers:
        person = participants[stored.participant]
        item = trial.plan(person.id)[stored.item]
        collected.append(
            Answer(
                person.id,
                person.speciality,
                person.years,
                stored.item + 1,
                *trial.slices[item.slice],
                item.other,
                item.side,
                stored.side,
                stored.milliseconds,
                stored.answered,
            )
        )
    return collected


@dataclass(frozen=True)
class Results:
    """Results of a trial.

    Attributes
    ----------
    answers
        All answers.
    methods
        Names of the methods that are compared with PixelMiner.
    """

    answers: list[Answer]
    methods: Sequence[str]

    @cached_property
    def overall(self) -> Share:
        """PixelMiner's share of all answers."""
        return _share(self.answers)

    @cached_property
    def by_method(self) -> dict[str, Share]:
        """PixelMiner's share against each method."""
        return {m: _share([x for x in self.answers if x.other == m]) for m in self.methods}

    @cached_property
    def corrected(self) -> dict[str, float]:
        """P values against each method, corrected by Holm over the methods."""
        p_values = holm([share.p for share in self.by_method.values()])
        return dict(zip(self.by_method, p_values, strict=True))

    @cached_property
    def by_speciality(self) -> dict[str, Share]:
        """PixelMiner's share by the participants' speciality, in alphabetical order."""
        return _grouped(self.answers, lambda answer: answer.speciality)

    @cached_property
    def by_participant(self) -> dict[int, Share]:
        """PixelMiner's share by participant, for those who answered."""
        return _grouped(self.answers, lambda answer: answer.participant)

    @property
    def finished(self) -> int:
        """Number of participants who answered all items."""
        return sum(share.answers == ITEMS for share in self.by_participant.values())

    @cached_property
    def participants_p(self) -> float:
        """P value of the test of the participants' shares."""
        return signed_rank(self.by_participant.values())

    @cached_property
    def left(self) -> Share:
        """Share of answers that chose the left side; far from one half, it suggests a habit."""
        return Share(sum(x.chosen == "left" for x in self.answers), len(self.answers))

    @cached_property
    def agreement(self) -> Agreement:
        """Agreement of participants who saw the same slice with the same method."""
        return agreement(((x.scan, x.slice, x.other), x.won) for x in self.answers)

    @cached_property
    def times(self) -> dict[str, Times | None]:
        """Times of all answers, of those for and against PixelMiner, and by other method."""
        groups = {
            "all": self.answers,
            "PixelMiner chosen": [x for x in self.answers if x.won],
            "other chosen": [x for x in self.answers if not x.won],
            **{m: [x for x in self.answers if x.other == m] for m in self.methods},
        }
        return {name: times([x.milliseconds for x in group]) for name, group in groups.items()}


def _share(answers: Sequence[Answer]) -> Share:
    return Share(sum(answer.won for answer in answers), len(answers))


def _grouped(answers: Sequence[Answer], key: Callable[[Answer], K]) -> dict[K, Share]:
    groups: dict[K, list[Answer]] = {value: [] for value in sorted(set(map(key, answers)))}
    for answer in answers:
        groups[key(answer)].append(answer)
    return {value: _share(group) for value, group in groups.items()}
