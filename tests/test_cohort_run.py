"""A cohort in the calling process, with averages in place of a network; what it finds there."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import pmtool
from pmtool.cli.console import INTERRUPTED, run_command
from pmtool.cli.main import cli
from pmtool.cohort import work
from pmtool.cohort.result import CSV, JSON
from pmtool.errors import UsageError
from pmtool.resampling import resample as resampling
from pmtool.resampling.options import Options
from pmtool.sampling.sampler import Sampler

pytestmark = pytest.mark.usefixtures("fresh_worker")

ENDINGS = {"--preview": "ct.png", "--statistics": "ct.statistics.json"}


def cohort(*arguments: object, workers: int = 0) -> int:
    given = ["cohort", *map(str, arguments), "--spacing", "1.25", f"--workers={workers}"]
    return run_command(cli, given)


def statuses(out: Path) -> dict[str, str]:
    with (out / CSV).open(newline="") as file:
        return {row["name"]: row["status"] for row in csv.DictReader(file)}


def content(folder: Path) -> dict[str, bytes]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


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


def test_every_case_is_that_of_a_single_run(
    scans: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cohort(scans, out, "-q") == 8
    told = capsys.readouterr()
    assert told.out == ""
    cut, mask, last = told.err.splitlines()
    assert cut.startswith(f"3/5 cut failed: {scans / 'cut.nrrd'} is truncated")
    assert mask.startswith(f"4/5 mask failed: {scans / 'mask.nrrd'} has uint8 voxels")
    assert last == f"pmtool: 2 of 5 cases are not done; {out / CSV} tells which and why"
    single = tmp_path / "single"
    (single / "deep").mkdir(parents=True)
    for name in ("a.nrrd", "b.nii.gz", "deep/c.mha"):
        pmtool.resample(scans / name, 1.25, single / name)
    made = content(out)
    del made[CSV], made[JSON]
    assert made == content(single)


def test_summaries(scans: Path, out: Path) -> None:
    cohort(scans, out)
    summary = json.loads((out / JSON).read_text())
    assert summary["counts"] == {"done": 3, "failed": 2}
    assert summary["generated"] == 12
    assert summary["request"]["spacing"] == [1.25]
    assert summary["request"]["options"]["seed"] == 0
    with (out / CSV).open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["a", "b", "cut", "mask", "deep/c"]
    assert rows["cut"]["exit_code"] == "3"
    assert rows["mask"]["exit_code"] == "5"
    assert rows["deep/c"]["output"] == str(out / "deep" / "c.mha")
    assert rows["deep/c"]["generated"] == "4"
    assert rows["deep/c"]["error"] == ""


def test_the_model_is_loaded_once(scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = resampling.load_sampler

    def counted(options: Options) -> Sampler:
        loaded.append(options)
        return load(options)

    monkeypatch.setattr(work, "load_sampler", counted)
    cohort(scans, out)
    assert len(loaded) == 1


def test_no_spacing_fits_all(ct: sitk.Image, scans: Path, out: Path) -> None:
    ct.SetSpacing((0.7, 0.7, 1.0))
    sitk.WriteImage(ct, str(scans / "thin.nrrd"))
    assert cohort(scans, out) == 8
    row = next(x for x in json.loads((out / JSON).read_text())["cases"] if x["name"] == "thin")
    assert row["exit_code"] == 2
    assert "coarser" in row["error"]


def test_warnings_are_told_in_the_summary(scans: Path, out: Path) -> None:
    assert run_command(cli, ["cohort", str(scans), str(out), "--spacing=2", "--workers=0"]) == 8
    rows = json.loads((out / JSON).read_text())["cases"]
    assert "interpolated" in rows[0]["warnings"][0]


def test_dry_run(
    scans: Path, out: Path, fake_sampler: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cohort(scans, out, "--dry-run", workers=2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["case", "scan", "output", "to", "generate", "hours", "there"]
    assert lines[1].split() == ["a", "5x12x10", "9", "4", "0.00", "no"]
    assert lines[-1].startswith(
        "cases: 5 (1 left out, whose headers do not tell); slices: 36, 16 of them to generate; "
    )
    assert lines[-1].endswith("about 1 s on 2 cores like these.")
    assert not out.exists()
    assert fake_sampler.calls == []


def test_log_in_json(scans: Path, out: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    cohort(scans, out, "--log-json", log, "-q")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    cases = [line for line in lines if line.get("event") == "case"]
    assert [line["name"] for line in cases] == ["a", "b", "cut", "mask", "deep/c"]
    assert [line["level"] for line in cases] == ["info", "info", "warning", "warning", "info"]
    assert cases[-1]["progress"]["finished"] == 5
    assert cases[-1]["progress"]["failed"] == 2
    assert cases[-1]["time"].endswith("+00:00")


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ("--scheduler=tcp://127.0.0.1:1",)),
        (2, ("--samples=0",)),
        (2, ("--name={nothing}",)),
        (2, ("--evaluate", "--allow-large")),
        (2, ("--evaluate", "--allow-uneven")),
        (3, ("--model=none",)),
        (6, ("--log-json=none/log",)),
    ],
)
def test_requests_that_cannot_be_met(
    ct_path: Path, out: Path, code: int, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if code == 3:
        monkeypatch.undo()
    assert cohort(ct_path.parent, out, *arguments) == code
    assert not out.exists()


@pytest.mark.parametrize(("means", "code"), [("--workers=1", 2), ("--scheduler=tcp://h:1", 0)])
def test_the_device_is_that_of_the_workers(
    ct_path: Path, out: Path, fake_sampler: Any, means: str, code: int
) -> None:
    """A login node without a GPU submits to machines that have one."""

    class Processor(fake_sampler):  # type: ignore[misc]
        def __init__(self, bundle: Any, options: Any, *, started: bool) -> None:
            assert not started  # estimates do not take hold of a GPU
            if options.device.startswith("cuda"):
                raise UsageError("there is no GPU")
            super().__init__(bundle, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "Sampler", Processor)
        asked = ["cohort", str(ct_path.parent), str(out), "--spacing=1.25", "--device=cuda"]
        assert run_command(cli, [*asked, "--dry-run", means]) == code


@pytest.mark.parametrize("spacing", [("0",), ("-1",), ("nan",), ("0", "0", "0"), ("thin",)])
def test_spacings_that_cannot_be(ct_path: Path, out: Path, spacing: tuple[str, ...]) -> None:
    asked = ["cohort", str(ct_path.parent), str(out), "--workers=0", "--spacing", *spacing]
    assert run_command(cli, asked) == 2
    assert not out.exists()


def test_a_file_in_place_of_the_folder(ct_path: Path, out: Path) -> None:
    out.touch()
    assert cohort(ct_path.parent, out) == 6
    assert run_command(cli, ["cohort", str(ct_path.parent), str(out)]) == 2


def test_the_calling_process_needs_no_dask(ct_path: Path, out: Path) -> None:
    code = (
        "import sys; sys.modules['distributed'] = sys.modules['dask'] = None\n"
        "from pmtool.cli.main import main; main()"
    )
    arguments = ["cohort", ct_path.parent, out, "--spacing=1.25"]
    run = [sys.executable, "-c", code, *map(str, arguments)]
    told = subprocess.run(run, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "pmtool[cohort]" in told.stderr
    told = subprocess.run([*run, "--workers=0", "-q"], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout == f"cases done: 1, all of them now; see {out / CSV}\n"


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


@pytest.mark.parametrize("option", ["--preview", "--statistics"])
def test_what_goes_with_a_volume_that_was_replaced_is_made_again(
    ct_path: Path, out: Path, fake_sampler: Any, option: str
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
    for damage in ('{"pmtool": "1"}', None):
        cohort(ct_path.parent, out)
        fake_sampler.calls.clear()
        if damage is None:
            (out / "ct.nrrd").unlink()
        else:
            (out / "ct.nrrd.json").write_text(damage)
        assert cohort(ct_path.parent, out) == 0
        assert len(fake_sampler.calls) == 4


@pytest.mark.parametrize("sidecar", [None, "", "{}", "[" * 10_000])
@pytest.mark.parametrize("option", ["--skip-existing", "--no-skip-existing"])
def test_files_of_others_are_not_replaced(
    ct_path: Path, out: Path, option: str, sidecar: str | None
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
    ct_path: Path, out: Path, fake_sampler: Any
) -> None:
    assert cohort(ct_path.parent, out) == 0
    for interrupted in (0, 2):
        fake_sampler.calls.clear()
        fake_sampler.interrupt_after = interrupted
        assert cohort(ct_path.parent, out, "--seed=1") == INTERRUPTED
    fake_sampler.interrupt_after = None
    assert cohort(ct_path.parent, out, "--seed=2") == 0


def test_no_scan_of_a_cohort_is_replaced(ct: sitk.Image, tmp_path: Path) -> None:
    for name in ("1.nrrd", "2.nrrd"):
        sitk.WriteImage(ct, str(tmp_path / name))
    (tmp_path / "cases.csv").write_text("path\n2.nrrd\n1.nrrd\n")
    before = content(tmp_path)
    assert cohort(tmp_path / "cases.csv", tmp_path, "--name={number}") == 2
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [CSV, JSON])
def test_the_table_of_a_cohort_is_not_replaced(
    scans: Path, out: Path, name: str, capsys: pytest.CaptureFixture[str]
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
    scans: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sidecar of the folder ``summary`` is ``summary.json``."""
    (scans / "a.nrrd").rename(scans / "summary.nrrd")
    assert cohort(scans, out, "--format=dicom") == 2
    assert f"{out / JSON}, which is the cohort's summary" in capsys.readouterr().err
    assert not out.exists()


def test_an_interrupted_cohort_goes_on(
    scans: Path, out: Path, fake_sampler: Any, capsys: pytest.CaptureFixture[str]
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
    ct_path: Path, out: Path, tmp_path: Path, fake_sampler: Any
) -> None:
    fake_sampler.interrupt_after = 2
    assert cohort(ct_path.parent, out) == INTERRUPTED
    fake_sampler.interrupt_after = None
    fake_sampler.calls.clear()
    assert cohort(ct_path.parent, out, "--seed=3") == 0
    assert len(fake_sampler.calls) == 4
