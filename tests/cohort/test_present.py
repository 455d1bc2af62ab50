"""What a cohort finds in the folder of its outputs: kept, completed, made again or left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

import pmtool
from pmtool.cli.console import INTERRUPTED
from pmtool.cohort.result import CSV, JSON

pytestmark = pytest.mark.usefixtures("fresh_worker")

Cohort = Callable[..., int]
Statuses = Callable[[Path], dict[str, str]]
Content = Callable[[Path], dict[str, bytes]]

ENDINGS = {"--preview": "ct.png", "--statistics": "ct.statistics.json"}


def test_what_is_there_is_kept(
    cohort: Cohort, statuses: Statuses, content: Content, scans: Path, out: Path, fake_sampler: Any
) -> None:
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


def test_what_is_there_is_kept_on_a_full_disk(
    cohort: Cohort,
    statuses: Statuses,
    ct_path: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cohort(ct_path.parent, out) == 0
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    assert cohort(ct_path.parent, out) == 0
    assert statuses(out) == {"ct": "present"}


def test_what_is_there_is_made_again_on_demand(
    cohort: Cohort, scans: Path, out: Path, fake_sampler: Any
) -> None:
    cohort(scans, out)
    fake_sampler.calls.clear()
    cohort(scans, out, "--no-skip-existing")
    assert len(fake_sampler.calls) == 12


def test_what_is_there_is_made_again_of_another_input(
    cohort: Cohort, statuses: Statuses, ct: sitk.Image, scans: Path, out: Path, fake_sampler: Any
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
    cohort: Cohort, scans: Path, out: Path, fake_sampler: Any, option: str
) -> None:
    cohort(scans, out)
    fake_sampler.calls.clear()
    cohort(scans, out, option)
    assert len(fake_sampler.calls) == 12


def test_what_is_there_gets_what_is_new_alone(
    cohort: Cohort, statuses: Statuses, scans: Path, out: Path, fake_sampler: Any
) -> None:
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


@pytest.mark.parametrize("option", ["--preview", "--statistics"])
def test_what_goes_with_a_volume_that_was_replaced_is_made_again(
    cohort: Cohort, statuses: Statuses, ct_path: Path, out: Path, fake_sampler: Any, option: str
) -> None:
    """The input is changed, for averages are the same for every seed."""
    assert cohort(ct_path.parent, out, option) == 0
    first = (out / ENDINGS[option]).read_bytes()
    sitk.WriteImage(sitk.ReadImage(str(ct_path))[:, :, ::-1] + 100, str(ct_path))
    assert cohort(ct_path.parent, out) == 0
    fake_sampler.calls.clear()
    for status in ("done", "present"):
        assert cohort(ct_path.parent, out, option) == 0
        assert statuses(out) == {"ct": status}
    assert (out / ENDINGS[option]).read_bytes() != first
    assert fake_sampler.calls == []


def test_what_is_there_gets_a_mask_that_changed(
    cohort: Cohort, statuses: Statuses, ct: sitk.Image, scans: Path, out: Path, fake_sampler: Any
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
    cohort: Cohort, ct_path: Path, out: Path, fake_sampler: Any
) -> None:
    for samples, calls in ((1, 4), (2, 8), (2, 0), (3, 12)):
        fake_sampler.calls.clear()
        assert cohort(ct_path.parent, out, f"--samples={samples}") == 0
        assert len(fake_sampler.calls) == calls


def test_what_is_there_is_made_again_by_another_version(
    cohort: Cohort, ct_path: Path, out: Path, fake_sampler: Any
) -> None:
    cohort(ct_path.parent, out)
    fake_sampler.calls.clear()
    sidecar = out / "ct.nrrd.json"
    told = json.loads(sidecar.read_bytes())
    told["options"]["version"] = "0"
    sidecar.write_text(json.dumps(told))
    assert cohort(ct_path.parent, out) == 0
    assert len(fake_sampler.calls) == 4


def test_a_volume_that_was_removed_is_made_again(
    cohort: Cohort, ct_path: Path, out: Path, fake_sampler: Any
) -> None:
    cohort(ct_path.parent, out)
    fake_sampler.calls.clear()
    (out / "ct.nrrd").unlink()
    assert cohort(ct_path.parent, out) == 0
    assert len(fake_sampler.calls) == 4


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.png"])
@pytest.mark.parametrize("option", ["--skip-existing", "--no-skip-existing", "--seed=1"])
def test_what_was_changed_is_neither_believed_nor_replaced(
    cohort: Cohort, ct_path: Path, out: Path, fake_sampler: Any, option: str, name: str
) -> None:
    assert cohort(ct_path.parent, out, "--preview") == 0
    before = (out / name).read_bytes()
    fake_sampler.calls.clear()
    (out / name).write_text("annotated")
    assert cohort(ct_path.parent, out, "--preview", option) == 8
    (case,) = json.loads((out / JSON).read_text())["cases"]
    assert case["exit_code"] == 6
    assert f"{name} exists and nothing tells that pmtool made it as it is" in case["error"]
    assert (out / name).read_text() == "annotated"
    assert fake_sampler.calls == []
    (out / name).write_bytes(before)
    assert cohort(ct_path.parent, out, "--preview", option) == 0


def test_a_series_that_was_changed_is_not_replaced(
    cohort: Cohort,
    ct: sitk.Image,
    tmp_path: Path,
    out: Path,
    write_dicom: Callable[..., list[Path]],
    fake_sampler: Any,
) -> None:
    write_dicom(tmp_path / "series" / "ct", sitk.GetArrayFromImage(ct))
    assert cohort(tmp_path / "series", out, "--format=dicom") == 0
    assert cohort(tmp_path / "series", out, "--format=dicom", "--no-skip-existing") == 0
    changed = out / "ct" / "0003.dcm"
    dataset = dcmread(changed)
    dataset.ImageComments = "a finding"
    dataset.save_as(changed)
    assert cohort(tmp_path / "series", out, "--format=dicom") == 8
    (case,) = json.loads((out / JSON).read_text())["cases"]
    assert case["exit_code"] == 6
    assert dcmread(changed).ImageComments == "a finding"


@pytest.mark.parametrize("written", ["write_bytes", "write_json"])
def test_a_case_that_was_stopped_while_it_was_completed_goes_on(
    cohort: Cohort,
    ct_path: Path,
    out: Path,
    fake_sampler: Any,
    monkeypatch: pytest.MonkeyPatch,
    written: str,
) -> None:
    """After its preview was replaced, or before."""
    assert cohort(ct_path.parent, out, "--preview") == 0
    expected = (out / "ct.png").read_bytes()
    (out / "ct.png").unlink()
    with monkeypatch.context() as patch:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(f"pmtool.resampling.resample.{written}", stop)
        assert cohort(ct_path.parent, out, "--preview") == INTERRUPTED
    assert cohort(ct_path.parent, out, "--preview") == 0
    assert (out / "ct.png").read_bytes() == expected
    assert not list(out.rglob("*.partial"))


def test_own_files_stay_own_when_two_replacements_are_interrupted(
    cohort: Cohort,
    ct_path: Path,
    out: Path,
    fake_sampler: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The first after its volume was replaced, the second before its first slice; then moved."""
    assert cohort(ct_path.parent, out) == 0
    with monkeypatch.context() as patch:

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("pmtool.resampling.resample.write_json", stop)
        assert cohort(ct_path.parent, out, "--mode=mean", "--seed=7") == INTERRUPTED
    fake_sampler.interrupt_after = 0
    fake_sampler.calls.clear()
    assert cohort(ct_path.parent, out, "--seed=9") == INTERRUPTED
    fake_sampler.interrupt_after = None
    moved = tmp_path / "moved"
    out.rename(moved)
    (moved / "ct.nrrd").write_bytes(b"as if another seed had made it")
    assert cohort(ct_path.parent, moved, "--seed=9") == 0
    assert not list(moved.rglob("*.partial"))


def test_what_a_run_left_that_was_killed_at_its_very_end_is_tidied_up(
    cohort: Cohort, ct_path: Path, out: Path, statuses: Statuses, fake_sampler: Any
) -> None:
    assert cohort(ct_path.parent, out) == 0
    journal = out / "ct.nrrd.partial"
    journal.mkdir()
    (journal / "00000001-0.npy").touch()
    (journal / "outputs.json").write_text('{"files": ["ct.nrrd"]}')
    assert cohort(ct_path.parent, out) == 0
    assert statuses(out) == {"ct": "present"}
    assert not journal.exists()


def test_voxels_of_others_beside_a_header_are_not_replaced(
    cohort: Cohort, ct_path: Path, out: Path
) -> None:
    out.mkdir()
    (out / "ct.zraw").write_text("precious")
    assert cohort(ct_path.parent, out, "--format=mhd") == 8
    assert [path.read_text() for path in out.glob("ct*")] == ["precious"]
    (out / "ct.zraw").unlink()
    for _ in range(2):
        assert cohort(ct_path.parent, out, "--format=mhd") == 0


@pytest.mark.parametrize("sidecar", [None, "", "{}", "[" * 10_000, '{"files": {}}'])
@pytest.mark.parametrize("option", ["--skip-existing", "--no-skip-existing"])
def test_files_of_others_are_not_replaced(
    cohort: Cohort, ct_path: Path, out: Path, option: str, sidecar: str | None
) -> None:
    out.mkdir()
    (out / "ct.nrrd").write_text("precious")
    if sidecar is not None:
        (out / "ct.nrrd.json").write_text(sidecar)
    assert cohort(ct_path.parent, out, option) == 8
    (case,) = json.loads((out / JSON).read_text())["cases"]
    assert case["exit_code"] == 6
    assert "nothing tells that pmtool made it" in case["error"]
    assert (out / "ct.nrrd").read_text() == "precious"


def test_own_files_stay_own_whenever_their_replacement_is_interrupted(
    cohort: Cohort, ct_path: Path, out: Path, fake_sampler: Any
) -> None:
    assert cohort(ct_path.parent, out) == 0
    for interrupted in (0, 2):
        fake_sampler.calls.clear()
        fake_sampler.interrupt_after = interrupted
        assert cohort(ct_path.parent, out, "--seed=1") == INTERRUPTED
    fake_sampler.interrupt_after = None
    assert cohort(ct_path.parent, out, "--seed=2") == 0


def test_no_scan_of_a_cohort_is_replaced(
    cohort: Cohort, content: Content, ct: sitk.Image, tmp_path: Path
) -> None:
    for name in ("1.nrrd", "2.nrrd"):
        sitk.WriteImage(ct, str(tmp_path / name))
    (tmp_path / "cases.csv").write_text("path\n2.nrrd\n1.nrrd\n")
    before = content(tmp_path)
    assert cohort(tmp_path / "cases.csv", tmp_path, "--name={number}") == 2
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [CSV, JSON])
def test_the_table_of_a_cohort_is_not_replaced(
    cohort: Cohort,
    content: Content,
    scans: Path,
    out: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out.mkdir()
    table = out / name
    table.write_text(f"path\n{scans / 'a.nrrd'}\n")
    before = content(out)
    assert cohort(table, out) == 2
    assert f"summary would replace the table {table}; rename it" in capsys.readouterr().err
    assert content(out) == before
    assert cohort(table, out.parent / "other") == 0


def test_no_output_is_called_as_the_summary(
    cohort: Cohort, scans: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sidecar of the folder ``summary`` is ``summary.json``."""
    (scans / "a.nrrd").rename(scans / "summary.nrrd")
    assert cohort(scans, out, "--format=dicom") == 2
    assert f"{out / JSON}, which is the cohort's summary" in capsys.readouterr().err
    assert not out.exists()


def test_an_interrupted_cohort_goes_on(
    cohort: Cohort,
    statuses: Statuses,
    scans: Path,
    out: Path,
    fake_sampler: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_sampler.interrupt_after = 6
    assert cohort(scans, out) == INTERRUPTED
    told = capsys.readouterr().err
    assert f"are kept in {out / 'b.nii.gz.partial'}; repeat the command to go on" in told
    assert "--resume" not in told
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
    cohort: Cohort, ct_path: Path, out: Path, tmp_path: Path, fake_sampler: Any
) -> None:
    fake_sampler.interrupt_after = 2
    assert cohort(ct_path.parent, out) == INTERRUPTED
    fake_sampler.interrupt_after = None
    fake_sampler.calls.clear()
    assert cohort(ct_path.parent, out, "--seed=3") == 0
    assert len(fake_sampler.calls) == 4
