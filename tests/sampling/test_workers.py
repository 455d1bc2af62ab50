"""Workers of the cached sampler: what they tell of their progress, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pmtool.arrays import Slice
from pmtool.errors import MemoryBudgetError
from pmtool.models.bundle import Bundle
from pmtool.sampling import sampler
from pmtool.sampling.lanes import Lanes
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import PairGroup, SlicePair
from pmtool.sampling.sampler import Sampler

pytestmark = pytest.mark.usefixtures("one_thread")
MakePairs = Callable[[tuple[int, int], int], list[SlicePair]]


def test_progress_reaches_the_number_of_slices(bundle: Bundle, make_pairs: MakePairs) -> None:
    told: list[float] = []
    pairs = make_pairs((20, 100), 2)
    slices = list(Sampler(bundle, SamplerOptions(window=64)).generate(pairs, told.append))
    assert len(slices) == 2
    assert told == sorted(told)
    assert told[0] < 0.1
    assert told[-1] == pytest.approx(2)


def test_progress_of_a_batch_that_is_repeated(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, make_pairs: MakePairs
) -> None:
    """Memory that runs out in the middle of a window takes back what was told of it."""
    generate_lanes, failed = Lanes.generate, list[int]()

    def short(lanes: Lanes, group: Any, batch: Any, on_row: Any) -> None:
        if not failed:
            failed.append(1)
            on_row(0)
            raise MemoryBudgetError("out of memory")
        generate_lanes(lanes, group, batch, on_row)

    monkeypatch.setattr(Lanes, "generate", short)
    told: list[float] = []
    list(Sampler(bundle, SamplerOptions(threads=1)).generate(make_pairs((20, 20), 2), told.append))
    assert failed
    assert told[-1] == pytest.approx(2)


def test_what_is_finished_comes_before_the_error_of_a_worker(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, make_pairs: MakePairs
) -> None:
    def group(run: Any, indices: range, _: object) -> None:
        if indices.start:
            raise ArithmeticError("broken")
        run.events.put(sampler._Finished(0, np.zeros((20, 20), np.int16)))

    monkeypatch.setattr(sampler._Run, "_group", group)
    made = Sampler(bundle, SamplerOptions(batch=1, threads=1)).generate(make_pairs((20, 20), 2))
    assert next(made)[0] == 0
    with pytest.raises(ArithmeticError, match="broken"):
        next(made)


def test_error_in_a_worker_is_raised(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, make_pairs: MakePairs
) -> None:
    def broken(*_: Any) -> None:
        raise ArithmeticError("broken")

    monkeypatch.setattr("pmtool.sampling.pairs.PairGroup.places", broken)
    before = threading.active_count()
    with pytest.raises(ArithmeticError, match="broken"):
        list(Sampler(bundle, SamplerOptions(threads=2)).generate(make_pairs((20, 20), 2)))
    assert threading.active_count() == before


def test_a_thread_that_cannot_start_ends_the_others(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, make_pairs: MakePairs
) -> None:
    """The error is not kept back until the first thread has generated everything."""
    submit, slices_of = ThreadPoolExecutor.submit, PairGroup.slices
    started, finished = list[int](), list[int]()

    def submit_once(pool: ThreadPoolExecutor, *work: Any) -> Any:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(1)
        return submit(pool, *work)

    def counted(group: PairGroup) -> list[Slice]:
        finished.append(1)
        return slices_of(group)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_once)
    monkeypatch.setattr(PairGroup, "slices", counted)
    slices = Sampler(bundle, SamplerOptions(threads=2, batch=1)).generate(make_pairs((20, 20), 8))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(slices)
    assert len(finished) < 2


def test_stopping_early_ends_the_workers(bundle: Bundle, make_pairs: MakePairs) -> None:
    before, told = threading.active_count(), list[float]()
    options = SamplerOptions(threads=2, batch=1)
    slices = Sampler(bundle, options).generate(make_pairs((20, 20), 8), told.append)
    next(slices)
    slices.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert told[-1] < 7


def test_error_of_the_consumer_ends_the_workers(bundle: Bundle, make_pairs: MakePairs) -> None:
    before = threading.active_count()

    def progress(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Sampler(bundle, SamplerOptions(threads=2)).generate(make_pairs((20, 20), 4), progress))
    assert threading.active_count() == before
