"""The slices of a case divided among workers, and the means that a machine has for them."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import pmtool
from pmtool.cohort import work
from pmtool.cohort.cases import Case
from pmtool.cohort.extent import Extent
from pmtool.cohort.plan import Size, room, size_of
from pmtool.cohort.progress import Tally
from pmtool.cohort.request import Request
from pmtool.cohort.result import Result
from pmtool.cohort.work import generate_part, open_case, resample_case
from pmtool.resampling.options import Options

pytestmark = pytest.mark.usefixtures("fresh_worker")

CASE = Case(Path("ct.nrrd"), name="ct")


def silent(name: str, slices: float) -> None:
    """Tell nobody."""


@pytest.fixture
def case(ct_path: Path) -> Case:
    return Case(ct_path, name="ct")


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    return Request(tmp_path / "out", (0.625,), Options(samples=2))


def run_parts(case: Case, request: Request, count: int) -> Result:
    """All parts of both rounds, the last one first."""
    opened = open_case(case, request, tell=silent)
    every = last = [opened]
    for turn in range(2):
        parts = [(index, count) for index in reversed(range(count))]
        last = [generate_part(case, request, last, turn, part, tell=silent) for part in parts]
        every = [*every, *last]
    return resample_case(case, request, every, tell=silent)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_parts_make_what_one_worker_makes(
    case: Case, request_: Request, tmp_path: Path, fake_sampler: Any, count: int
) -> None:
    result = run_parts(case, request_, count)
    assert result.status == "done"
    assert result.generated == len(fake_sampler.calls) == 2 * 12
    more: dict[str, Any] = {"samples": 2, "uncertainty": tmp_path / "sd.nrrd"}
    pmtool.resample(case.path, 0.625, tmp_path / "one.nrrd", **more)
    for name, expected in (("ct", "one"), ("ct.uncertainty", "sd")):
        made = tmp_path / "out" / f"{name}.nrrd"
        assert made.read_bytes() == (tmp_path / f"{expected}.nrrd").read_bytes()
    assert not (tmp_path / "out" / "ct.nrrd.partial").exists()


def test_parts_that_are_repeated_do_nothing(
    case: Case, request_: Request, fake_sampler: Any
) -> None:
    opened = [open_case(case, request_, tell=silent)]
    for generated in (8, 0):
        again = generate_part(case, request_, opened, 0, (0, 1), tell=silent)
        assert again.generated == generated
    assert generate_part(case, request_, opened, 7, (0, 1), tell=silent).generated == 0


def test_a_part_that_is_repeated_when_the_case_is_complete(
    case: Case, request_: Request, fake_sampler: Any
) -> None:
    """Its worker died in the last step, and took the results of the parts with it."""
    opened = open_case(case, request_, tell=silent)
    assert run_parts(case, request_, 2).status == "done"
    again = generate_part(case, request_, [opened], 0, (0, 2), tell=silent)
    assert (again.status, again.generated) == ("open", 0)
    assert resample_case(case, request_, [opened, again], tell=silent).status == "present"


def test_another_command_does_not_mix_its_slices_with_these(
    case: Case, request_: Request, fake_sampler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(request_, options=replace(request_.options, seed=1))
    opened = [open_case(case, request_, tell=silent)]
    found: list[Result] = []

    def interfere(*_: object) -> None:
        found.append(open_case(case, other, tell=silent))

    monkeypatch.setattr(work, "generate", interfere)
    assert generate_part(case, request_, opened, 0, (0, 1), tell=silent).status == "open"
    assert (found[0].status, found[0].exit_code) == ("failed", 6)
    assert "another process is writing to" in str(found[0].error)
    monkeypatch.undo()
    assert open_case(case, other, tell=silent).status == "open"  # between two parts
    part = generate_part(case, request_, opened, 0, (0, 1), tell=silent)
    assert (part.status, fake_sampler.calls) == ("failed", [])
    assert "or by another command" in str(part.error)


def test_a_case_that_is_there_stays(case: Case, request_: Request, fake_sampler: Any) -> None:
    run_parts(case, request_, 2)
    fake_sampler.calls.clear()
    assert run_parts(case, request_, 2).status == "present"
    assert fake_sampler.calls == []
    ended = open_case(case, request_, tell=silent)
    part = generate_part(case, request_, [ended], 0, (0, 2), tell=silent)
    copies = pickle.loads(pickle.dumps([ended, part, part]))
    told = resample_case(case, request_, copies, tell=silent)
    assert (told.status, told.seconds) == ("present", ended.seconds)


def test_parts_of_unlike_machines(
    case: Case, request_: Request, fake_sampler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slices of two engines do not come into one volume."""
    opened = [open_case(case, request_, tell=silent)]
    work._sampler.cache_clear()
    monkeypatch.setattr(fake_sampler.engine, "backend", "others")
    part = generate_part(case, request_, opened, 0, (0, 1), tell=silent)
    assert (part.status, part.exit_code, fake_sampler.calls) == ("failed", 2, [])
    assert "begun by a worker with another backend" in str(part.error)


def test_a_failure_ends_all_parts(case: Case, request_: Request, tmp_path: Path) -> None:
    case.path.write_bytes(b"NRRD0004\n")
    result = run_parts(case, request_, 2)
    assert (result.status, result.exit_code) == ("failed", 3)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("free", "cores", "expected"), [(100, 4, 4), (100, 64, 40), (2, 4, 1), (6, 4, 2)]
)
def test_workers_by_cores_and_memory(free: int, cores: int, expected: int) -> None:
    """Input and output of two bytes a voxel, and as much again."""
    voxels = (5 + 9) * 10 * 10
    plan = SimpleNamespace(memory=2 * 10**9 - 2 * 2 * voxels, seconds_per_slice=1.0)
    sampler: Any = SimpleNamespace(device="cpu", plan=lambda shape, slices: plan)
    cases = [replace(CASE, name="known", extent=Extent(5, 10, 10, 2.5)), CASE]
    request = Request(Path(), (1.25,), Options())
    sizes = {case.name: size_of(case, request, sampler) for case in cases}
    assert room(cases, sizes, sampler, free * 10**9, cores, 8) == expected


@pytest.mark.parametrize(
    ("spacing", "generated"), [((1.25,), 4), ((1.25, 0, 0), 4), ((0, 0, 1.25), 0)]
)
def test_what_sagittal_slices_take(spacing: tuple[float, ...], generated: int) -> None:
    plan = SimpleNamespace(seconds_per_slice=1.0)
    sampler: Any = SimpleNamespace(plan=lambda shape, slices: plan)
    case = replace(CASE, extent=Extent(5, 10, 10, 2.5, axis=0))
    size = size_of(case, Request(Path(), spacing, Options()), sampler)
    assert size is not None
    assert size.generated == generated


def test_a_worker_for_every_gpu() -> None:
    sampler: Any = SimpleNamespace(device="cuda:0")
    assert room([CASE], {CASE.name: None}, sampler, 10**12, 64, 8) == 8


def test_progress() -> None:
    size = Size(slices=9, generated=4, rounds=1, seconds=1.0, output_bytes=100)
    progress = Tally({"a": size, "b": size, "c": None})
    assert progress.state()["seconds_left"] is None
    progress.tell("a", 1.5)
    progress.tell("a", 1.0)
    state = progress.state()
    assert state["finished"] == 0
    assert state["seconds_left"] == pytest.approx(5.5 / state["slices_per_second"], abs=1)
    progress.finish(replace(Result.of(CASE, "done"), name="a", generated=4))
    progress.finish(replace(Result.of(CASE, "failed"), name="c"))
    before = progress.state()
    progress.tell("a", 1.0)  # too late
    progress.tell("of another cohort", 1.0)
    state = progress.state()
    assert state["slices_per_second"] <= before["slices_per_second"]
    assert (state["finished"], state["failed"], state["cases"]) == (2, 1, 3)
    assert str(progress).startswith("2/3 cases, 1 failed, ")
    assert json.loads(json.dumps(state)) == state
    assert np.isfinite(state["slices_per_second"])


def test_a_mask_goes_with_its_case(ct: sitk.Image, case: Case, request_: Request) -> None:
    mask = case.path.with_name("mask.nrrd")
    sitk.WriteImage(sitk.Cast(ct > 0, sitk.sitkUInt8), str(mask))
    request = replace(request_, mask_interpolation="linear")
    assert resample_case(replace(case, mask=mask), request, tell=silent).status == "done"
    made = sitk.ReadImage(str(request.folder / "ct.mask.nrrd"))
    assert made.GetSize() == (10, 12, 17)
