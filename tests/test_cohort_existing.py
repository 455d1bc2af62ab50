"""What a cohort finds in its folder: outputs, other ones, and halves of an interrupted run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import pmtool
from pmtool.cli import cli
from pmtool.cohort import work
from pmtool.cohort.result import CSV, JSON
from pmtool.console import INTERRUPTED, run_command


def cohort(*arguments: object, workers: int = 0) -> int:
    given = ["cohort", *map(str, arguments), "--spacing", "1.25", f"--workers={workers}"]
    return run_command(cli, given)


def statuses(out: Path) -> dict[str, str]:
    with (out / CSV).open(newline="") as file:
        return {row["name"]: row["status"] for row in csv.DictReader(file)}


def content(folder: Path) -> dict[str, bytes]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(autouse=True)
def _fresh_worker(fake_sampler: Any) -> None:
    work._sampler.cache_clear()


@pytest.fixture
def scans(ct: sitk.Image, tmp_path: Path) -> Path:
    """Three CTs, one of them with a mask beside it in a table, and two that are none."""
    folder = tmp_path / "scans"
    (folder / "deep").mkdir(parents=True)
    sitk.WriteImage(ct, str(folder / "a.nrrd"))
    sitk.WriteImage(ct + 1, str(folder / "b.nii.gz"))
    sitk.WriteImage(ct + 2, str(folder / "deep" / "c.mha"))
    sitk.WriteImage(sitk.Cast(ct > 0, sitk.sitkUInt8), str(folder / "mask.nrrd"))
    (folder / "cut.nrrd").write_bytes((folder / "a.nrrd").read_bytes()[:-300])
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_what_is_there_is_kept(scans: Path, out: Path, fake_sampler: Any) -> None:
    cohort(scans, out)
    before = content(out)
    fake_sampler.calls.clear()
    assert cohort(scans, out, "--threads=1", "--memory=8G") == 8
    assert fake_sampler.calls == []
    assert set(statuses(out).values()) == {"present", "failed"}
    after = content(out)
    assert {k: v for k, v in after.items() if k not in (CSV, JSON)} == {
        k: v for k, v in before.items() if k not in (CSV, JSON)
    }


def test_what_is_there_is_made_again_on_demand(scans: Path, out: Path, fake_sampler: Any) -> None:
    cohort(scans, out)
    fake_sampler.calls.clear()
    cohort(scans, out, "--no-skip-existing")
    assert len(fake_sampler.calls) == 12


def test_what_is_there_is_made_again_of_another_input(
    ct: sitk.Image, scans: Path, out: Path, fake_sampler: Any
) -> None:
    cohort(scans, out)
    fake_sampler.calls.clear()
    sitk.WriteImage(ct + 5, str(scans / "a.nrrd"))
    cohort(scans, out)
    assert len(fake_sampler.calls) == 4
    assert statuses(out)["a"] == "done"
    assert statuses(out)["b"] == "present"
    made = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "a.nrrd")))
    assert np.array_equal(made[::2], sitk.GetArrayFromImage(ct + 5))


@pytest.mark.parametrize("option", ["--seed=1", "--mode=median", "--grid=origin"])
def test_what_is_there_is_made_again_by_other_options(
    scans: Path, out: Path, fake_sampler: Any, option: str
) -> None:
    cohort(scans, out)
    fake_sampler.calls.clear()
    cohort(scans, out, option)
    assert len(fake_sampler.calls) == 12


def test_what_is_there_gets_what_is_new_alone(scans: Path, out: Path, fake_sampler: Any) -> None:
    cohort(scans, out)
    before = (out / "a.nrrd").stat().st_mtime_ns
    fake_sampler.calls.clear()
    cohort(scans, out, "--preview", "--statistics")
    assert fake_sampler.calls == []
    assert statuses(out)["a"] == "done"
    assert (out / "a.png").exists()
    assert (out / "a.nrrd").stat().st_mtime_ns == before
    single = out.parent / "single.nrrd"
    pmtool.resample(scans / "a.nrrd", 1.25, single, statistics=out.parent / "statistics.json")
    expected = (out.parent / "statistics.json").read_bytes()
    assert (out / "a.statistics.json").read_bytes() == expected


def test_what_is_there_gets_a_mask_that_changed(
    ct: sitk.Image, scans: Path, out: Path, fake_sampler: Any
) -> None:
    table = scans / "cases.csv"
    table.write_text("path,mask\na.nrrd,mask.nrrd\n")
    assert cohort(table, out) == 0
    first = (out / "a.mask.nrrd").read_bytes()
    fake_sampler.calls.clear()
    assert cohort(table, out) == 0
    assert statuses(out) == {"a": "present"}
    sitk.WriteImage(sitk.Cast(ct > 100, sitk.sitkUInt8), str(scans / "mask.nrrd"))
    assert cohort(table, out) == 0
    assert statuses(out) == {"a": "done"}
    assert (out / "a.mask.nrrd").read_bytes() != first
    assert fake_sampler.calls == []


def test_what_is_there_gets_an_uncertainty_of_as_many_samples(
    ct_path: Path, out: Path, fake_sampler: Any
) -> None:
    for samples, calls in ((1, 4), (2, 8), (2, 0), (3, 12)):
        fake_sampler.calls.clear()
        assert cohort(ct_path.parent, out, f"--samples={samples}") == 0
        assert len(fake_sampler.calls) == calls


def test_what_is_there_is_not_believed_without_a_true_sidecar(
    ct_path: Path, out: Path, fake_sampler: Any
) -> None:
    for damage in ("", "{}", "[" * 10_000, None):
        cohort(ct_path.parent, out)
        fake_sampler.calls.clear()
        if damage is None:
            (out / "ct.nrrd").unlink()
        else:
            (out / "ct.nrrd.json").write_text(damage)
        assert cohort(ct_path.parent, out) == 0
        assert len(fake_sampler.calls) == 4


def test_an_interrupted_cohort_goes_on(scans: Path, out: Path, fake_sampler: Any) -> None:
    fake_sampler.interrupt_after = 6
    assert cohort(scans, out) == INTERRUPTED
    assert statuses(out) == {
        "a": "done", "b": "open", "cut": "open", "mask": "open", "deep/c": "open"
    }  # fmt: skip
    assert (out / "b.nii.gz.partial").is_dir()
    fake_sampler.interrupt_after = None
    fake_sampler.calls.clear()
    assert cohort(scans, out) == 8
    assert len(fake_sampler.calls) == 6
    assert not list(out.rglob("*.partial"))


def test_another_cohort_than_the_interrupted_one_starts_anew(
    ct_path: Path, out: Path, tmp_path: Path, fake_sampler: Any
) -> None:
    fake_sampler.interrupt_after = 2
    assert cohort(ct_path.parent, out) == INTERRUPTED
    fake_sampler.interrupt_after = None
    fake_sampler.calls.clear()
    assert cohort(ct_path.parent, out, "--seed=3") == 0
    assert len(fake_sampler.calls) == 4
