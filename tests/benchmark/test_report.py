"""A benchmark's JSON, page and picture."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pmtool.benchmark.naive import PassCost
from pmtool.benchmark.outputs import write_outputs
from pmtool.benchmark.page import page
from pmtool.benchmark.peaks import Peak
from pmtool.benchmark.picture import draw, draw_runs
from pmtool.benchmark.quality import Quality
from pmtool.benchmark.report import Report, Run, StripReport, machine
from pmtool.benchmark.scaling import Point, Scaling
from pmtool.errors import OutputError, UsageError
from pmtool.system.devices import Gpu

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def _report() -> Report:
    def run(name: str, window: int, seconds: float) -> Run:
        shares = {"window": 0.25, "row": 0.25, "pixel": 0.25, "driver": 0.25}
        floor = {"window": 0.1, "row": 0.1, "pixel": 0.05}
        size, places = (256, 256), (window, window)
        times: dict[str, Any] = {"shares": shares, "floor": floor, "start": 0.01}
        return Run(name, "x", 2, 2, size, places, 1, 1, seconds, 1, **times)

    strip = StripReport((0, 0, 0), 1, 64, 1.0, 0, {"naive": None})
    return Report(
        command="pmtool bench",
        scene="phantom",
        model="m",
        model_hash="0",
        peaks=[Peak("cpu", "float32", 1e10, 2e9)],
        passes=[PassCost(1, 1, 0.1, 64)],
        max_logit_difference={64: 1e-6, 192: 2e-6},
        strip=strip,
        naive=replace(run("naive", 64, 100), passes=64, shares=None, floor=None, start=None),
        window_64=run("cached, 64", 64, 2),
        default=run("cached, 192", 192, 1),
        scaling=Scaling(5, {Point(1, 128): 1, Point(1, 256): 3}, [Point(8, 128), Point(8, 256)]),
        left_out={"a peer": "there is no compiler"},
    )


def test_report(tmp_path: Path) -> None:
    path, report = tmp_path / "result.json", _report()
    written = {"json": path, "page": tmp_path / "page.md", "picture": None}
    write_outputs(written, report, report.to_json())
    values = json.loads(path.read_text())
    assert values["speedup"] == 100
    assert values["speedup_window_64"] == 50
    assert values["seconds_per_slice_512"] == 2
    assert values["max_logit_difference"] == 2e-6
    spoilt = replace(report, max_logit_difference={64: 1e-6, 192: float("nan")})
    assert math.isnan(spoilt.to_json()["max_logit_difference"])
    assert values["equal_pixels"] == 1
    assert values["peaks"][0]["gemm_gflops"] == 10
    wanted = {"device", "backend", "precision", "channels", "pairs", "size", "batch", "seconds"}
    assert all(wanted <= run.keys() for run in values["runs"])
    assert [run["slices_per_second"] for run in values["runs"]] == [0.02, 1, 2]
    assert [run["pixels_per_second"] for run in values["runs"]][1:] == [256**2, 2 * 256**2]
    assert (tmp_path / "page.md").read_text() == page(values)
    with pytest.raises(OutputError):
        write_outputs({**written, "json": tmp_path / "none" / "x"}, report, values)


def test_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems that lack what Linux has, and with a GPU that PyTorch may not see."""
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.delattr("os.getloadavg")
    asked = []

    def find_gpu(device: str) -> Gpu:
        asked.append(device)
        if device == "cuda:1":
            raise UsageError("nvidia-smi does not tell")
        return Gpu("NVIDIA H100", "9.0", "580.65.06")

    monkeypatch.setattr("pmtool.benchmark.report.find_gpu", find_gpu)
    assert machine()["cores"] >= 1
    assert machine()["load"] >= 0
    assert machine()["gpu"] is None
    assert machine("cuda:0,cuda:1")["gpu"] == "NVIDIA H100, driver 580.65.06"
    assert machine("cuda:1")["gpu"] is None
    assert asked == ["cuda:0", "cuda:1"]


def test_page() -> None:
    told = " ".join(page(_report().to_json()).split())
    assert "speed-up 100, at window 64 50" in told
    assert "2 s a 512x512 slice" in told
    assert not any(x in told for x in ("not like with like", "On a GPU", "loading", "In brackets"))
    assert "| cached, 192 | 0.125 (2.5) | 0.125 (2.5) | 0.125 (5) | 0.125 | 0.5 (4) |" in told
    assert "| s / scan, by pairs | 128x128 | 256x256 |" in told
    assert "| 1 | 1 | 3 |" in told
    assert "| 8 | - | - |" in told
    assert "- left out: a peer: there is no compiler" in told


def test_page_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a naive sampler that ran elsewhere, and with times of milliseconds."""
    monkeypatch.setattr("pmtool.benchmark.report.find_gpu", lambda x: Gpu("H100", "9.0", "580"))
    there: dict[str, Any] = {"device": "cuda:0", "precision": "bfloat16", "start": 12.0}
    report = _report()
    report = replace(
        report,
        window_64=replace(report.window_64, **there),
        default=replace(report.default, seconds=0.004, **there),
        quality={"cached, 192": {"epr": Quality(0.5, None, None, None)}},
    )
    told = " ".join(page(report.to_json()).split())
    assert (
        "speed-up 25,000, at window 64 50 (not like with like: naive on cpu in float32, cached on "
        "cuda:0 in bfloat16); 0.008 s a 512x512 slice"
    ) in told
    assert "loading the engines, before the clock: cached, 64 12 s; cached, 192 12 s" in told
    assert "On a GPU shares are of a second run that waits for the end of every graph." in told
    assert "H100, driver 580), load" in told
    assert "| cached, 192 | 0.500 |" in told
    assert not any(x in told for x in ("semicolon", "In brackets", "Errors of texture"))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("cpu-*.json")), ids=lambda path: path.name)
def test_pages_of_results(path: Path) -> None:
    """Every machine's page is that of its JSON."""
    assert path.with_suffix(".md").read_text() == page(json.loads(path.read_text()))


def test_picture() -> None:
    image = Image.open(BytesIO(draw(_report())))
    assert image.format == "PNG"
    assert len(image.getcolors(1 << 20) or []) > 10


def test_picture_without_a_floor() -> None:
    """A floor that is not known is not drawn; the others stand beside their runs."""
    axes, report = Figure().add_subplot(), _report()
    draw_runs(axes, [replace(report.window_64, floor=None), report.default])
    assert np.array_equal(axes.lines[0].get_xydata(), [[0.125, 1]])
