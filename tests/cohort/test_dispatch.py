"""In which order cases are handed out."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("distributed")

from distributed import Client

from pmtool.cohort import dispatch
from pmtool.cohort.cases import Case
from pmtool.cohort.plan import Size
from pmtool.cohort.request import Request
from pmtool.cohort.result import Result
from pmtool.cohort.work import TellSlices

SECONDS = {"short": 1.0, "long": 9.0, "untold": None, "middle": 5.0}


BEGUN: list[str] = []


def note(case: Case, request: Request, *, tell: TellSlices) -> Result:
    """What the worker runs; it finds this by its name."""
    BEGUN.append(case.name)
    return Result.of(case, "done")


def test_long_cases_begin_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "resample_case", note)
    cases = [Case(Path(f"{name}.nrrd"), name=name) for name in SECONDS]
    sizes = {
        name: None if seconds is None else Size(9, 4, 1, seconds, 100)
        for name, seconds in SECONDS.items()
    }
    request = Request(Path("out"), (1.25,))
    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as one:
        results = list(dispatch.dispatch(one, cases, request, sizes, lambda *_: None))
    assert BEGUN == ["untold", "long", "middle", "short"]
    assert sorted(result.name for result in results) == sorted(SECONDS)
