"""`pmtool bench`: what it refuses, and all of it once."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pmtool.benchmark.cached import CachedRun
from pmtool.benchmark.cached import run_cached as cached_run
from pmtool.benchmark.floor import PARTS
from pmtool.benchmark.page import page
from pmtool.benchmark.peer_runs import COMPILED
from pmtool.cli.console import run_command
from pmtool.errors import MemoryBudgetError
from pmtool.main import cli
from pmtool.models.bundle import Bundle
from pmtool.sampling.options import SamplerOptions
from pmtool.system import extras


def run(*arguments: object) -> int:
    return run_command(cli, [str(argument) for argument in arguments])


def _without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda x: None if x == name else find_spec(x))


def test_bench_without_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _without(monkeypatch, "torch")
    assert run("bench") == 2
    assert "pmtool[cpu,torch]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--size", 63),
        ("--pairs", 0),
        ("--passes", 63),
        ("--passes", 4097),
        ("--window", "wide"),
        ("--budget", 0),
        ("--budget", "nan"),
        ("--batch", 0),
        ("--picture", "picture.jpg"),
        ("--backend", "tensorflow"),
        ("--precision", "int8"),
        ("--device", "tpu"),
        ("--backend", "onnxruntime-cpu", "--precision", "bfloat16"),
    ],
)
def test_bench_options(arguments: tuple[object, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", *arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_bench_does_not_replace_its_scan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = tmp_path / "thin.nrrd"
    scan.write_text("precious")
    assert run("bench", "--input", scan, "--json", scan, "--overwrite") == 6
    assert "is an input" in capsys.readouterr().err
    assert scan.read_text() == "precious"


def test_bench_json_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.touch()
    assert run("bench", "--json", path) == 6
    new = tmp_path / "new.json"
    assert run("bench", "--json", new, "--page", new) == 6
    assert not new.exists()


def test_bench_picture_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _without(monkeypatch, "matplotlib")
    assert run("bench", "--picture", "x.png") == 2
    assert "needs matplotlib: pip install 'pmtool[evaluate]'" in capsys.readouterr().err


def test_bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it with the default model, as small as can be; nothing can be compiled."""
    monkeypatch.delattr("torch.compile")
    monkeypatch.setattr("pmtool.benchmark.timing.RUNS", 1)
    monkeypatch.setattr("pmtool.benchmark.peaks.COPY_BYTES", 1 << 24)
    monkeypatch.setattr("pmtool.benchmark.peer_runs.BATCHES", (1, 2))
    monkeypatch.setattr("pmtool.benchmark.scaling.SIZES", (64, 512))
    files = [tmp_path / f"bench.{suffix}" for suffix in ("json", "md", "png")]
    outputs = zip(("--json", "--page", "--picture"), files, strict=True)
    small = ("--device", "cpu", "--size", 64, "--pairs", 1, "--passes", 64, "--threads", 1)
    more = ("--batch", 2, "--batch", 1, "--batch", 3, "--peers", "--scaling", "--budget", 0.001)

    def run_cached(bundle: Bundle, options: SamplerOptions, *more: Any, **others: Any) -> CachedRun:
        if options.batch == 3:
            raise MemoryBudgetError("no room for three")
        return cached_run(bundle, options, *more, **others)

    monkeypatch.setattr("pmtool.benchmark.run.run_cached", run_cached)
    assert run("bench", *small, *more, *(x for pair in outputs for x in pair)) == 0
    values, told = json.loads(files[0].read_text()), capsys.readouterr()
    assert told.out == files[1].read_text() == page(values)
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert values["equal_pixels"] >= 63 / 64
    assert values["max_logit_difference"] < 1e-3
    assert list(values["max_logit_difference_by_engine"]) == ["onnxruntime-cpu float32"]
    assert "--pairs 1 --passes 64 --peers --scaling --budget 0.001" in values["command"]
    naive, cached, other, *peers = values["runs"]
    assert [run["batch"] for run in (cached, other)] == [1, 1]  # there is only one window
    assert values["speedup"] == naive["seconds"] / cached["seconds"] > 10
    assert cached["start"] > 0
    assert all(cached["shares"][part] > 0 for part in PARTS)
    assert sum(cached["shares"].values()) == pytest.approx(1)
    assert all(cached["floor"][part] > 0 for part in PARTS)
    assert sum(cached["floor"][part] for part in PARTS) < cached["seconds"]
    assert values["quality"][other["name"]]["epr"]["difference"] == 0  # batches change no pixel
    assert [run["batch"] for run in peers] == [1, 1, 2]
    assert all(run["equal_pixels"] >= 63 / 64 for run in peers)
    assert [(x["pairs"], x["size"]) for x in values["scaling"]["measured"]] == [(1, 64)]
    assert values["left_out"]["batch 3"] == "no room for three"
    assert list(values["left_out"]) == ["batch 3", COMPILED]
