"""A cohort in the calling process, with averages in place of a network."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from pmtool.cli.console import run_command
from pmtool.cohort import work
from pmtool.cohort.result import CSV
from pmtool.main import cli


def _cohort(*arguments: object, workers: int = 0) -> int:
    given = ["cohort", *map(str, arguments), "--spacing", "1.25", f"--workers={workers}"]
    return run_command(cli, given)


def _statuses(out: Path) -> dict[str, str]:
    with (out / CSV).open(newline="") as file:
        return {row["name"]: row["status"] for row in csv.DictReader(file)}


def _content(folder: Path) -> dict[str, bytes]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def cohort() -> Callable[..., int]:
    """``cohort(scans, out, *options, workers=0)``: `pmtool cohort` to 1.25 mm, its exit code."""
    return _cohort


@pytest.fixture
def statuses() -> Callable[[Path], dict[str, str]]:
    """``statuses(out)``: of every case, from the summary."""
    return _statuses


@pytest.fixture
def content() -> Callable[[Path], dict[str, bytes]]:
    """``content(folder)``: of all files below, by their paths in it."""
    return _content


@pytest.fixture
def fresh_worker(fake_sampler: Any) -> None:
    """A worker of a cohort that has loaded no model yet; it will be averages."""
    work._sampler.cache_clear()


@pytest.fixture
def scans(ct: sitk.Image, tmp_path: Path) -> Path:
    """Three CTs, and two files that are not: a mask, and a file that is cut off."""
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
