"""Cohorts whose cases are evaluated too."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pmtool.cli.console import run_command
from pmtool.cohort.cases import Case
from pmtool.cohort.evaluation import evaluate_case
from pmtool.cohort.request import Request
from pmtool.cohort.result import CSV, JSON
from pmtool.images.image_file import write_image
from pmtool.main import cli
from pmtool.phantom.chest import chest_phantom
from pmtool.resampling.options import Options

pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("onnxruntime")
pytest.importorskip("skimage")

from pmtool.evaluation import commands
from pmtool.evaluation.commands import EvaluationOptions
from pmtool.evaluation.method_options import chosen_methods
from pmtool.evaluation.methods import PIXELMINER, Sampled
from pmtool.resampling.preparation import load_sampler
from pmtool.sampling.sampler import Sampler


def test_evaluation_of_every_case(tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    write_image(chest_phantom(size=128, slices=5, spacing=(2.8, 2.8, 1.25)), scans / "lung.nrrd")
    write_image(chest_phantom(size=32, slices=2, spacing=(11, 11, 1.25)), scans / "two.nrrd")
    asked = ["cohort", scans, out, "--spacing=1.25", "--workers=0", "--threads=1"]
    asked += ["--evaluate", "--evaluate-slices=1"]
    for _ in range(2):
        assert run_command(cli, [str(argument) for argument in asked]) == 8
    lung, two = json.loads((out / JSON).read_text())["cases"]
    assert lung["status"] == "present"
    report = json.loads((out / "lung.evaluation" / "report.json").read_text())
    assert lung["evaluation"] == report["summary"]
    assert report["provenance"]["scans"][0]["slices"] in ([1], [3])
    assert two["status"] == "failed"
    assert "every second one is dropped" in two["error"]
    assert two["output"] == str(out / "two.nrrd")
    assert (out / "two.nrrd").exists()
    with (out / CSV).open(newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["linear mae_hu"]) == lung["evaluation"]["linear"]["mae_hu"]
    assert "pixelminer mae_hu" in row


def test_an_evaluation_uses_the_sampler_of_the_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[EvaluationOptions, Sampler]] = []

    def evaluate(
        paths: Any, folder: Path, options: EvaluationOptions, tell: Any, sampler: Sampler
    ) -> None:
        folder.mkdir(parents=True)
        (folder / "report.json").write_text('{"summary": {}}')
        asked.append((options, sampler))

    monkeypatch.setattr(commands, "evaluate", evaluate)
    options = Options(
        window="full", batch=3, threads=2, memory=2**32, allow_large=True, thickness=3
    )
    request = Request(tmp_path, (1.25,), options)
    loaded = load_sampler(options)
    evaluate_case(Case(tmp_path / "ct.nrrd", name="ct"), request, loaded)
    ((told, sampler),) = asked
    assert sampler is loaded
    assert told.sampler == options
    assert told.reading == options
    both = replace(told, methods=(PIXELMINER,), modes=("sample", "median"))
    sample, median = chosen_methods([], tmp_path, both, sampler)
    assert isinstance(sample, Sampled)
    assert isinstance(median, Sampled)
    assert sample.sampler.options == options
    assert median.sampler.options == replace(options, mode="median")
    assert sample.sampler.load("cpu", 2) is median.sampler.load("cpu", 2)
