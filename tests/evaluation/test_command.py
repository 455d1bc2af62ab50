"""`pmtool evaluate` and `pmtool compare`, through the real command."""

from __future__ import annotations

import csv
import json
import multiprocessing
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.cli.console import run_command
from pmtool.errors import OutputError
from pmtool.evaluation import PACKAGES, compare, texture
from pmtool.evaluation.folder import check_report_folder
from pmtool.evaluation.scoring import REFERENCE
from pmtool.evaluation.summary import MEASURE_NAMES
from pmtool.main import cli
from pmtool.models.bundle import Bundle
from pmtool.phantom.chest import chest_phantom
from pmtool.system import extras
from pmtool.system.files import temporary_beside

pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("skimage")


def run(*arguments: object) -> int:
    return run_command(cli, [str(argument) for argument in arguments])


def report_of(folder: Path) -> dict[str, Any]:
    """The JSON, which must be JSON in the strict sense."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    content: dict[str, Any] = json.loads(
        (folder / "report.json").read_text(), parse_constant=refuse
    )
    return content


@pytest.fixture(scope="module")
def phantom() -> sitk.Image:
    return chest_phantom(size=128, slices=7, spacing=(2.8, 2.8, 1.25))


@pytest.fixture
def scan(phantom: sitk.Image, tmp_path: Path) -> Path:
    path = tmp_path / "thin.nrrd"
    sitk.WriteImage(phantom, str(path))
    return path


def blurred(image: sitk.Image, path: Path) -> Path:
    """A volume whose dropped slices are smooth."""
    values = sitk.GetArrayFromImage(image)
    smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, 1.5))
    values[1::2] = smooth[1::2]
    made = sitk.GetImageFromArray(values)
    made.CopyInformation(image)
    sitk.WriteImage(made, str(path))
    return path


def test_report(
    scan: Path, phantom: sitk.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, methods = tmp_path / "report", "linear,nearest"
    arguments = ("evaluate", scan, "--out", folder, "--workers", 1)
    truth = ("--external", f"truth={scan}")
    soft = ("--external", f"soft={blurred(phantom, tmp_path / 'soft.nrrd')}")
    assert run(*arguments, "--methods", methods, *truth, *soft) == 0
    told = capsys.readouterr()
    assert "3 slices of thin.nrrd" in told.out
    assert told.out.count("Table ") == (4 if texture.is_available() else 3)
    assert ("pyradiomics" in told.out) != texture.is_available()
    report = report_of(folder)
    summary = report["summary"]
    assert list(summary) == ["linear", "nearest", "truth", "soft"]
    assert all(tuple(sorted(row)) == tuple(sorted(MEASURE_NAMES)) for row in summary.values())
    assert summary["truth"]["epr"] == 1
    assert summary["truth"]["edge_share"] == 0.5
    assert summary["truth"]["mae_hu"] == 0
    assert summary["truth"]["msmfe"] == 0
    assert report["left_out"]["slices_without_homogeneous_piece"] == 3
    if texture.is_available():
        assert summary["truth"]["texture_nrmse"] == 0
        assert summary["truth"]["ccc_share"] == 1
    assert report["provenance"]["scans"][0]["slices"] == [1, 3, 5]
    check_csv(folder)
    check_tables(folder, told.out)
    check_page(folder)


def check_csv(folder: Path) -> None:
    with (folder / "slices.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == {"linear", "nearest", "truth", "soft"}
    (value,) = (
        float(row["value"])
        for row in rows
        if (row["method"], row["measure"], row["slice"]) == ("truth", "epr", "3")
    )
    assert value == 1
    measures = {row["measure"] for row in rows}
    assert ("texture" in measures) == texture.is_available()
    assert "map_squared_error" in measures


def check_tables(folder: Path, told: str) -> None:
    """They have the cells of those that are printed."""
    names = ["1", "1b", *(["2"] if texture.is_available() else []), "3"]
    assert sorted(path.name for path in folder.glob("table-*")) == [f"table-{x}.csv" for x in names]
    printed = re.findall(r"Table (\w+)\. .*\n.*\n((?:.+\n){5})", told)
    assert [number for number, _ in printed] == names
    for number, lines in printed:
        with (folder / f"table-{number}.csv").open() as file:
            rows = list(csv.reader(file))
        assert [" ".join(row).split() for row in rows] == [x.split() for x in lines.splitlines()]
        assert rows[0][0] == "Method"
        assert rows[0][-4:] == ["> Linear", "> Nearest neighbour", "> truth", "> soft"]
        assert [row[0] for row in rows[1:]] == ["Linear", "Nearest neighbour", "truth", "soft"]


class Links(HTMLParser):
    """Collects what a page refers to and how many pictures it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href") and not (value or "").startswith(("data:", "#")):
                self.outside.append(value or "")
        self.pictures += tag in ("img", "svg")


def check_page(folder: Path) -> None:
    """It needs no other file and shows two examples of five panels, and the plots."""
    links = Links()
    links.feed((folder / "report.html").read_text())
    assert [x for x in links.outside if not x.startswith("http://www.w3.org/")] == []
    assert links.pictures == 2 * (1 + 2 * 5) + (2 if texture.is_available() else 1)


def test_device_and_engine_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    scan, name = tmp_path / "thin.nrrd", Bundle.load().manifest.name
    sitk.WriteImage(chest_phantom(size=64, slices=3, spacing=(5.6, 5.6, 1.25)), str(scan))
    arguments = ("evaluate", scan, "--out", tmp_path / "report", "--workers", 1, "--threads", 1)
    assert run(*arguments, "--methods", "linear,pixelminer", "--device", "cpu") == 0
    told = f"slices are generated by model {name} on cpu (onnxruntime-cpu, float32).\n"
    assert capsys.readouterr().err.count(told) == 1
    linear, pixelminer = report_of(tmp_path / "report")["provenance"]["methods"]
    assert pixelminer["device"] == "cpu"
    assert "device" not in linear


def test_scores_are_kept(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "report"
    arguments = ("evaluate", scan, "--out", folder, "--workers", 1, "-q", "--slices", 2)
    assert run(*arguments, "--methods", "linear") == 0
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "cache").iterdir()}
    assert run(*arguments, "--methods", "linear,bspline") == 0
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "cache").iterdir()}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2
    again = report_of(folder)

    def fail(*_: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr("pmtool.evaluation.run.score", fail)
    assert run(*arguments, "--methods", "linear,bspline") == 0
    assert report_of(folder) == again


def test_workers_do_not_change_the_figures(scan: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", scan, "--methods", "linear,windowed_sinc", "-q")
    for workers in (1, 2):
        assert run(*arguments, "--workers", workers, "--out", tmp_path / f"{workers}") == 0
    assert report_of(tmp_path / "1") == report_of(tmp_path / "2")


def test_a_scoring_process_that_is_killed(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the system does when memory is short."""
    arguments = ("evaluate", scan, "--out", tmp_path / "r", "--methods", "linear")
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_a_child)
        assert run(*arguments, "--workers", 2) == 7
        killed.result()
    assert "give fewer --workers" in capsys.readouterr().err
    assert run(*arguments, "--workers", 1) == 0


def kill_a_child() -> None:
    """Kill a process of the pool once both are there: Python waits forever for one that follows."""
    while len(children := multiprocessing.active_children()) < 2:
        time.sleep(0.01)
    children[0].kill()


def test_several_scans_and_masks(phantom: sitk.Image, scan: Path, tmp_path: Path) -> None:
    other, mask = tmp_path / "other.nii.gz", tmp_path / "mask.nrrd"
    sitk.WriteImage(phantom[:, :, 1:], str(other))
    sitk.WriteImage(sitk.Cast(phantom > 0, sitk.sitkUInt8), str(mask))
    arguments = ("evaluate", scan, other, "--out", tmp_path / "report", "--methods", "linear", "-q")
    assert run(*arguments, "--workers", 1, "--slices", 1) == 0
    provenance = report_of(tmp_path / "report")["provenance"]
    assert [x["name"] for x in provenance["scans"]] == ["thin.nrrd", "other.nii.gz"]
    assert [x["scan"] for x in provenance["methods"]] == ["thin.nrrd", "other.nii.gz"]
    assert run(*arguments, "--mask", mask) == 2
    assert run(*arguments, "--external", f"x={scan}") == 2
    assert run(*arguments, "--mask", mask, "--mask", mask) == 4  # of the other scan's grid


def test_without_pyradiomics(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(texture, "is_available", lambda: False)
    earlier = {"report.json": '{"pmtool": "1"}', "table-2.csv": "of an earlier report"}
    (tmp_path / "report").mkdir()
    for name, content in earlier.items():
        (tmp_path / "report" / name).write_text(content)
    arguments = ("evaluate", scan, "--out", tmp_path / "report", "--workers", 1, "--slices", 1)
    assert run(*arguments, "--methods", "linear") == 0
    assert "missing: texture" in capsys.readouterr().out
    report = report_of(tmp_path / "report")
    assert report["summary"]["linear"]["texture_nrmse"] is None
    assert report["summary"]["linear"]["epr"] > 0
    assert not (tmp_path / "report" / "table-2.csv").exists()
    assert "pip install" in report["missing"][0]


def test_other_tools_volumes_are_in_hu(
    scan: Path, phantom: sitk.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless `--assume-hu` says so of all volumes."""
    other, folder = tmp_path / "other.nrrd", tmp_path / "report"
    sitk.WriteImage(sitk.Cast(phantom, sitk.sitkFloat32) / 4096 + 0.25, str(other))
    end = ("--workers", 1, "--out", folder, "-q")
    evaluate = ("evaluate", scan, "--methods", "linear", "--slices", 1, "--external", f"x={other}")
    compare = ("compare", other, scan, "--reference", scan)
    for command in (evaluate, compare):
        assert run(*command, *end) == 5
        assert "other.nrrd cannot be in HU" in capsys.readouterr().err
        assert not folder.exists()
        assert run(*command, *end, "--assume-hu") == 0
        shutil.rmtree(folder)


def test_flipped_volumes_have_the_same_scores(
    scan: Path, phantom: sitk.Image, tmp_path: Path
) -> None:
    """Also if the scan itself is flipped, other than they are."""
    soft, flipped, folder = tmp_path / "soft.nrrd", tmp_path / "flipped.nii.gz", tmp_path / "report"
    blurred(phantom, soft)
    sitk.WriteImage(sitk.Flip(sitk.ReadImage(str(soft)), [False, True, False]), str(flipped))
    turned = tmp_path / "turned.nii.gz"
    sitk.WriteImage(sitk.Flip(phantom, [True, False, True]), str(turned))
    volumes = ("--external", f"soft={soft}", "--external", f"flipped={flipped}")
    for true in (scan, turned):
        evaluate = ("evaluate", true, "--methods", "linear", *volumes)
        compare = ("compare", soft, flipped, "--reference", true)
        for command in (evaluate, compare):
            assert run(*command, "--workers", 1, "--out", folder, "-q") == 0
            summary = report_of(folder)["summary"]
            assert summary["soft"] == summary["flipped"]
            assert summary["soft"]["epr"] < 0.9
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ("--methods", "cubic")),
        (2, ("--methods", "")),
        (2, ("--methods", "linear", "--mode", "median")),
        (2, ("--external", "file.nrrd")),
        (2, ("--external", "pixelminer=thin.nrrd", "--methods", "linear")),
        (3, ("--external", "x=none.nrrd", "--methods", "linear")),
        (3, ("--mask", "none.nrrd", "--methods", "linear")),
        (3, ("--model", "none", "--methods", "pixelminer")),
    ],
)
def test_requests_that_cannot_be_met(
    scan: Path, tmp_path: Path, code: int, arguments: tuple[str, ...]
) -> None:
    assert run("evaluate", scan, "--out", tmp_path / "report", *arguments) == code
    assert not (tmp_path / "report").exists()


def test_folders_of_other_things_are_left_alone(scan: Path, tmp_path: Path) -> None:
    assert run("evaluate", scan, "--methods", "linear", "--out", tmp_path) == 6
    assert run("evaluate", scan, "--methods", "linear", "--out", scan) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["thin.nrrd"]


def test_what_a_killed_report_left_is_no_other_thing(tmp_path: Path) -> None:
    with temporary_beside(tmp_path / "report.json") as left:
        pass
    left.touch()
    check_report_folder(tmp_path)
    (tmp_path / "table-1.csv").touch()
    with pytest.raises(OutputError, match=r"table-1.csv, which pmtool has not written"):
        check_report_folder(tmp_path)
    (tmp_path / "table-1.csv").unlink()
    (tmp_path / ".other.json.1@node.tmp").touch()
    with pytest.raises(OutputError, match="other"):
        check_report_folder(tmp_path)


@pytest.mark.parametrize("command", ["evaluate", "compare"])
@pytest.mark.parametrize("name", PACKAGES)
def test_missing_packages_are_named(
    command: str,
    name: str,
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda x: None if x == name else find_spec(x))
    inputs = {"evaluate": (scan,), "compare": (scan, tmp_path / "b.nrrd", "--reference", scan)}
    assert run(command, *inputs[command], "--out", tmp_path / "report") == 2
    told = capsys.readouterr().err
    assert told == f"pmtool: pmtool {command} needs {name}: pip install 'pmtool[cpu,evaluate]'\n"


def test_compare(
    scan: Path, phantom: sitk.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft = blurred(phantom, tmp_path / "soft.nrrd")
    copy = tmp_path / "copy.nrrd"
    shutil.copy(scan, copy)
    arguments = ("compare", copy, soft, "--reference", scan, "--workers", 1)
    assert run(*arguments) == 0
    told = capsys.readouterr().out
    assert "3 slices of thin.nrrd" in told  # the others are equal in both
    assert run(*arguments, "-q", "--out", tmp_path / "report") == 0
    summary = report_of(tmp_path / "report")["summary"]
    assert summary["copy"]["epr"] == 1
    assert summary["soft"]["epr"] < 0.9
    assert not (tmp_path / "report" / "cache").exists()
    assert (tmp_path / "report" / "table-1.csv").exists()
    assert run("compare", copy, copy, "--reference", scan) == 2
    sitk.WriteImage(phantom[:, :, 1:], str(copy))
    assert run(*arguments) == 4


def test_names_in_a_comparison() -> None:
    """A folder may have the name that stands for the true slices."""
    assert compare._names([Path("a.nrrd"), Path("b.nrrd")]) == ["a", "b"]
    assert compare._names([Path("a/ct.nrrd"), Path("b/ct.nrrd")]) == ["a/ct.nrrd", "b/ct.nrrd"]
    paths = [Path(REFERENCE), Path("other")]
    assert compare._names(paths) == [str(path.absolute()) for path in paths]


def test_direction_of_the_paper_on_a_real_scan(
    tmp_path: Path, shared: Callable[[str], Path]
) -> None:
    """Linear has the fewest edges, too little noise and the worst texture of the paper's four."""
    pytest.importorskip("radiomics")
    slab = tmp_path / "slab.nrrd"
    scan = sitk.ReadImage(str(shared("validation/RICORD-000082.nrrd")))
    sitk.WriteImage(scan[:, :, 50:71], str(slab))
    methods = "linear,nearest,bspline,windowed_sinc"
    arguments = ("--out", tmp_path / "report", "--methods", methods, "--slices", 4, "-q")
    assert run("evaluate", slab, *arguments) == 0
    summary = report_of(tmp_path / "report")["summary"]
    for key, pick in {"edge_share": min, "odd_even_noise": min, "texture_nrmse": max}.items():
        figures = {method: row[key] for method, row in summary.items()}
        assert pick(figures, key=lambda method: figures[method]) == "linear", (key, figures)
    assert np.isclose(summary["linear"]["mae_hu"], 25.6, atol=4)  # of the full scan
