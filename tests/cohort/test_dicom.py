"""DICOM series as the cases of a cohort."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pmtool
from pmtool.cli.console import run_command
from pmtool.cohort import work
from pmtool.cohort.result import JSON
from pmtool.main import cli

pytest.importorskip("pydicom")


@pytest.fixture
def scans(tmp_path: Path, write_dicom: Callable[..., list[Path]]) -> Path:
    """Two series of CT in one folder, one of PET in another."""
    voxels = np.random.default_rng(1).integers(-1000, 1000, (3, 12, 10))
    for uid in ("1.2.3", "1.2.4"):
        write_dicom(tmp_path / "scans" / "a", voxels, SeriesInstanceUID=uid)
        voxels = voxels + 1
    pet = {"Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"}
    write_dicom(tmp_path / "scans" / "pet", voxels, **pet)
    return tmp_path / "scans"


@pytest.mark.parametrize("file_format", ["nrrd", "dicom"])
def test_series(scans: Path, tmp_path: Path, fake_sampler: Any, file_format: str) -> None:
    work._sampler.cache_clear()
    out = tmp_path / "out"
    asked = ["cohort", str(scans), str(out), "--spacing=1.25", "--workers=0"]
    asked += [f"--format={file_format}", "--preview"]
    assert run_command(cli, asked) == 8
    results = {x["name"]: x for x in json.loads((out / JSON).read_text())["cases"]}
    assert {name: x["exit_code"] for name, x in results.items()} == {
        "a/1.2.3": 0,
        "a/1.2.4": 0,
        "pet": 5,
    }
    assert "PT" in results["pet"]["error"]
    for uid in ("1.2.3", "1.2.4"):
        made = out / "a" / (uid if file_format == "dicom" else f"{uid}.nrrd")
        single = tmp_path / made.name
        pmtool.resample(scans / "a", 1.25, single, series_uid=uid, dicom=file_format == "dicom")
        files = [Path()] if made.is_file() else [Path(path.name) for path in made.iterdir()]
        assert len(files) == (5 if file_format == "dicom" else 1)
        for file in files:
            assert (made / file).read_bytes() == (single / file).read_bytes()

    (out / "a" / "1.2.3.png").unlink()
    fake_sampler.calls.clear()
    assert run_command(cli, asked) == 8
    assert fake_sampler.calls == []
    assert (out / "a" / "1.2.3.png").exists()


def test_what_lies_below_a_series_is_no_part_of_it(
    tmp_path: Path, write_dicom: Callable[..., list[Path]], fake_sampler: Any
) -> None:
    """Another phase with the same UID, and a damaged file."""
    work._sampler.cache_clear()
    voxels = np.random.default_rng(1).integers(-1000, 1000, (3, 12, 10))
    scans, out = tmp_path / "scans", tmp_path / "out"
    write_dicom(scans / "phase1", voxels)
    write_dicom(scans / "phase1" / "phase2", voxels + 1)
    (scans / "phase1" / "other").mkdir()
    (scans / "phase1" / "other" / "cut.dcm").write_bytes(b"hello")
    asked = ["cohort", str(scans), str(out), "--spacing=1.25", "--workers=0"]
    assert run_command(cli, asked) == 8
    results = {x["name"]: x for x in json.loads((out / JSON).read_text())["cases"]}
    found = {name: x["status"] for name, x in results.items()}
    assert found == {"phase1": "done", "phase1/phase2": "done", "phase1/other": "failed"}
