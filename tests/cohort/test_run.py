"""A cohort in the calling process, with averages in place of a network."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import SimpleITK as sitk

import pmtool
from pmtool.cli.console import run_command
from pmtool.cohort import work
from pmtool.cohort.result import CSV, FILES, JSON
from pmtool.errors import UsageError
from pmtool.main import cli
from pmtool.resampling import preparation
from pmtool.resampling.options import Options
from pmtool.sampling.sampler import Sampler

pytestmark = pytest.mark.usefixtures("fresh_worker")

Cohort = Callable[..., int]
Content = Callable[[Path], dict[str, bytes]]


def test_every_case_is_that_of_a_single_run(
    cohort: Cohort,
    content: Content,
    scans: Path,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
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


def test_names_that_are_no_text(ct_path: Path, out: Path) -> None:
    """ITK would end the process, and the cohort with it."""
    ct_path.with_name(os.fsdecode(b"M\xfcller.nrrd")).write_bytes(ct_path.read_bytes())
    given = ("cohort", ct_path.parent, out, "--spacing=2.5", "--workers=0")
    command = [sys.executable, "-m", "pmtool", *map(str, given)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 8
    assert b"M\\udcfcller failed: " in done.stderr
    cases = {case["name"]: case for case in json.loads((out / JSON).read_text())["cases"]}
    assert cases["ct"]["status"] == "done"
    assert "not UTF-8" in cases["M\udcfcller"]["error"]
    assert b"M\\udcfcller," in (out / CSV).read_bytes()


def test_names_that_are_too_long(cohort: Cohort, ct_path: Path, out: Path) -> None:
    table = ct_path.with_name("cases.csv")
    table.write_text(f"path\n{'a' * 300}.nrrd\nct.nrrd\n")
    assert cohort(table, out) == 8
    found = json.loads((out / JSON).read_text())["cases"]
    assert [case["exit_code"] for case in found] == [3, 0]
    assert "File name too long" in found[0]["error"]
    assert cohort(table, out, "--dry-run") == 0


def test_an_image_of_one_slice(cohort: Cohort, ct_path: Path, out: Path) -> None:
    """As a localizer saved as an image; the others are resampled."""
    image = sitk.ReadImage(str(ct_path))
    sitk.WriteImage(image[:, :, :1], str(ct_path.with_name("scout.nrrd")))
    assert cohort(ct_path.parent, out, "--dry-run") == 0
    assert cohort(ct_path.parent, out) == 8
    found = json.loads((out / JSON).read_text())["cases"]
    assert [case["exit_code"] for case in found] == [0, 4]


def test_cases_that_fail_leave_no_folders(cohort: Cohort, ct_path: Path, out: Path) -> None:
    scans = ct_path.parent / "below"
    for place in (scans / "a" / "b", scans / "c"):
        place.mkdir(parents=True)
        (place / "bad.nrrd").write_text("none")
    shutil.copy(ct_path, scans / "c" / "ct.nrrd")
    assert cohort(scans, out) == 8
    assert {path.name for path in out.iterdir()} == {"c", CSV, JSON}


@pytest.mark.parametrize("name", FILES)
def test_a_summary_of_others_is_not_replaced(
    cohort: Cohort, ct_path: Path, out: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out.mkdir()
    (out / name).write_text("precious")
    assert cohort(ct_path.parent, out) == 6
    assert f"holds {name}, which pmtool has not written" in capsys.readouterr().err
    assert [path.read_text() for path in out.iterdir()] == ["precious"]


def test_summaries(cohort: Cohort, scans: Path, out: Path) -> None:
    cohort(scans, out)
    summary = json.loads((out / JSON).read_text())
    assert summary["counts"] == {"done": 3, "failed": 2}
    assert summary["generated"] == 12
    assert summary["request"]["spacing"] == [1.25]
    options = summary["request"]["options"]
    assert options["seed"] == 0
    assert not any("advise" in name for name in options)
    with (out / CSV).open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["a", "b", "cut", "mask", "deep/c"]
    assert rows["cut"]["exit_code"] == "3"
    assert rows["mask"]["exit_code"] == "5"
    assert rows["deep/c"]["output"] == str(out / "deep" / "c.mha")
    assert rows["deep/c"]["generated"] == "4"
    assert rows["deep/c"]["error"] == ""


def test_the_model_is_loaded_once(
    cohort: Cohort, scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = preparation.load_sampler

    def counted(options: Options) -> Sampler:
        loaded.append(options)
        return load(options)

    monkeypatch.setattr(work, "load_sampler", counted)
    cohort(scans, out)
    assert len(loaded) == 1


def test_no_spacing_fits_all(cohort: Cohort, ct: sitk.Image, scans: Path, out: Path) -> None:
    ct.SetSpacing((0.7, 0.7, 1.0))
    sitk.WriteImage(ct, str(scans / "thin.nrrd"))
    assert cohort(scans, out) == 8
    row = next(x for x in json.loads((out / JSON).read_text())["cases"] if x["name"] == "thin")
    assert row["exit_code"] == 2
    assert "coarser" in row["error"]


def test_warnings_are_told_in_the_summary(scans: Path, out: Path) -> None:
    assert run_command(cli, ["cohort", str(scans), str(out), "--spacing=2", "--workers=0"]) == 8
    rows = json.loads((out / JSON).read_text())["cases"]
    assert "does not meet them" in rows[0]["warnings"][0]


def test_scans_that_pmtool_made_are_told(ct_path: Path, out: Path) -> None:
    (out.parent / "made").mkdir()
    pmtool.resample(ct_path, 1.25, out.parent / "made" / "fine.nrrd")
    arguments = ["cohort", str(out.parent / "made"), str(out), "--spacing=0.625", "--workers=0"]
    assert run_command(cli, arguments) == 0
    (row,) = json.loads((out / JSON).read_text())["cases"]
    assert "4 of the 9 slices of" in row["warnings"][0]


def test_dry_run(
    cohort: Cohort, scans: Path, out: Path, fake_sampler: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cohort(scans, out, "--dry-run", workers=2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == "case scan output to generate core hours there"
    assert lines[1].split() == ["a", "5x12x10", "9", "4", "0.00", "no"]
    assert lines[-1].startswith(
        "cases: 5 (1 left out, whose headers do not tell or do not fit); slices: 36, 16 of them to "
        "generate; "
    )
    assert lines[-1].endswith("about 1 s on 2 cores like these.")
    assert not out.exists()
    assert fake_sampler.calls == []
    assert cohort(scans, out) == 8
    assert cohort(scans, out, "--dry-run", workers=2) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(
        "like these. Outputs of 3 cases exist and are kept if they are up to date."
    )


def test_a_dry_run_counts_the_workers_that_fit(
    ct_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory for three, whatever the number of cores."""
    asked = ["cohort", str(ct_path.parent), str(out), "--spacing=1.25", "--dry-run"]
    monkeypatch.setattr("pmtool.cohort.run.cpu_count", lambda: 64)
    monkeypatch.setattr("pmtool.cohort.run.free_memory", lambda: 4 * 2**20)
    assert run_command(cli, asked) == 0
    assert capsys.readouterr().out.endswith("on 3 cores like these.\n")
    assert run_command(cli, [*asked, "--scheduler=tcp://h:1"]) == 0
    assert capsys.readouterr().out.endswith("on 1 core like these.\n")


def test_workers_with_several_threads_take_as_many_cases_at_once(
    ct_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    client = SimpleNamespace(nthreads=lambda: {"tcp://a": 4, "tcp://b": 8}, dashboard_link="")
    monkeypatch.setattr("pmtool.cohort.cluster.joined_cluster", lambda _: nullcontext(client))
    monkeypatch.setattr("pmtool.cohort.dispatch.dispatch", lambda *_: iter(()))
    asked = ["cohort", str(ct_path.parent), str(out), "--spacing=1.25", "--scheduler=tcp://h:1"]
    assert run_command(cli, asked) == 8
    assert "on 12 cores like these" in capsys.readouterr().err


def test_a_dry_run_tells_what_is_not_there(
    cohort: Cohort, scans: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = scans / "cases.csv"
    table.write_text("path,mask\na.nrrd,mask.nrrd\nb.nii.gz,lung.nrrd\nd.nrrd,\n")
    assert cohort(table, out, "--dry-run", "-q") == 0
    why = "cannot be read (No such file or directory)"
    assert capsys.readouterr().err.splitlines() == [
        f"b will fail: {scans / 'lung.nrrd'} {why}",
        f"d will fail: {scans / 'd.nrrd'} {why}",
    ]
    assert cohort(table, out, "-q") == 8
    found = json.loads((out / JSON).read_text())["cases"]
    assert [case["status"] for case in found] == ["done", "failed", "failed"]


def test_log_in_json(cohort: Cohort, scans: Path, out: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    cohort(scans, out, "--log-json", log, "-q")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    cases = [line for line in lines if line.get("event") == "case"]
    assert [line["name"] for line in cases] == ["a", "b", "cut", "mask", "deep/c"]
    assert [line["level"] for line in cases] == ["info", "info", "warning", "warning", "info"]
    assert cases[-1]["progress"]["finished"] == 5
    assert cases[-1]["progress"]["failed"] == 2
    assert cases[-1]["time"].endswith("+00:00")
    cohort(scans, out, "--log-json", log, "-q")
    assert len(log.read_text().splitlines()) > len(lines)


def test_a_log_is_not_appended_to_a_scan(cohort: Cohort, scans: Path, out: Path) -> None:
    before = (scans / "a.nrrd").read_bytes()
    assert cohort(scans, out, "--log-json", scans / "a.nrrd") == 6
    assert (scans / "a.nrrd").read_bytes() == before
    assert not out.exists()


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ("--scheduler=tcp://127.0.0.1:1",)),
        (2, ("--samples=0",)),
        (2, ("--name={nothing}",)),
        (2, ("--evaluate", "--allow-uneven")),
        (2, ("--evaluate-slices=3",)),
        (3, ("--model=none",)),
        (6, ("--log-json=none/log",)),
    ],
)
def test_requests_that_cannot_be_met(
    cohort: Cohort,
    ct_path: Path,
    out: Path,
    code: int,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
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

    class OnCpu(fake_sampler):  # type: ignore[misc]
        def __init__(self, bundle: Any, options: Any) -> None:
            if options.device.startswith("cuda"):
                raise UsageError("there is no GPU")
            super().__init__(bundle, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pmtool.cohort.run.Planner", OnCpu)
        asked = ["cohort", str(ct_path.parent), str(out), "--spacing=1.25", "--device=cuda"]
        assert run_command(cli, [*asked, "--dry-run", means]) == code


@pytest.mark.parametrize("spacing", [("0",), ("-1",), ("nan",), ("0", "0", "0"), ("thin",)])
def test_spacings_that_cannot_be(ct_path: Path, out: Path, spacing: tuple[str, ...]) -> None:
    asked = ["cohort", str(ct_path.parent), str(out), "--workers=0", "--spacing", *spacing]
    assert run_command(cli, asked) == 2
    assert not out.exists()


def test_a_file_in_place_of_the_folder(cohort: Cohort, ct_path: Path, out: Path) -> None:
    out.touch()
    assert cohort(ct_path.parent, out) == 6
    assert run_command(cli, ["cohort", str(ct_path.parent), str(out)]) == 2


def test_the_calling_process_needs_no_dask(ct_path: Path, out: Path) -> None:
    code = (
        "import sys; sys.modules['distributed'] = sys.modules['dask'] = None\n"
        "from pmtool.main import main; main()"
    )
    arguments = ["cohort", ct_path.parent, out, "--spacing=1.25"]
    run = [sys.executable, "-c", code, *map(str, arguments)]
    told = subprocess.run(run, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "pmtool[cohort]" in told.stderr
    told = subprocess.run([*run, "--workers=0", "-q"], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout == f"cases done: 1, all of them now; see {out / CSV}\n"
