"""Small runs of `pmtool train`, and what is compared of them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from pmtool.cli.console import run_command
from pmtool.main import cli
from pmtool.phantom.chest import chest_phantom
from pmtool.training.checkpoint import load_state
from pmtool.training.record import LOG

TINY = """
network: {channels: 4, mixtures: 2, encoder: 4}
crops: {size: 16}
encoder: {steps: 2, patches: 4, warmup: 1, averaging: 0.5}
optimiser: {steps: 4, warmup: 2, averaging: 0.5, dropout: 0.5}
validation: {every: 3, log_every: 1, patches: 4, share: 0.3}
"""
TIMES = ("seconds", "patches_per_second")


def _write_scans(folder: Path, number: int = 3, first: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in range(first, first + number):
        phantom = chest_phantom(32, 5 + seed, (11.0, 11.0, 1.25), seed=seed)
        sitk.WriteImage(phantom, str(folder / f"{seed}.nrrd"))
    return folder


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_scans(tmp_path_factory.mktemp("given") / "scans")


@pytest.fixture(scope="session")
def given(scans: Path) -> list[str]:
    """Arguments but for the run's folder."""
    config = scans.parent / "tiny.yaml"
    config.write_text(TINY)
    options = ("--config", config, "--cache", scans.parent / "cache", "--accelerator", "cpu")
    return ["train", "--data", str(scans), *map(str, options)]


def _train(given: list[str], out: Path, *others: object) -> int:
    return run_command(cli, [*given, "--out", str(out), *map(str, others)])


@pytest.fixture(scope="session")
def whole(given: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert _train(given, out) == 0
    torch.set_num_threads(threads)
    return out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def _rows(out: Path) -> list[dict[str, str]]:
    """The log but for the times."""
    found = csv.DictReader((out / LOG).read_text().splitlines())
    return [{name: text for name, text in row.items() if name not in TIMES} for row in found]


def _assert_equal_runs(one: Path, other: Path) -> None:
    """The same weights, bit by bit, and the same log."""
    states = [load_state(one), load_state(other)]
    for name in ("network", "averaged"):
        first, second = (state[name] for state in states if state)
        for key, tensor in first.items():
            torch.testing.assert_close(second[key], tensor, rtol=0, atol=0, msg=key)
    assert _rows(one) == _rows(other)


@pytest.fixture
def train() -> Callable[..., int]:
    """``train(given, out, *others)``: `pmtool train`, and its exit code."""
    return _train


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, str]]]:
    """``rows(out)``: the log but for the times."""
    return _rows


@pytest.fixture
def assert_equal_runs() -> Callable[[Path, Path], None]:
    """``assert_equal_runs(one, other)``: the same weights, bit by bit, and the same log."""
    return _assert_equal_runs


@pytest.fixture
def write_scans() -> Callable[..., Path]:
    """``write_scans(folder, number=3, first=0)``: phantoms, a patient each."""
    return _write_scans


def _noise(seed: int = 0, shape: tuple[int, int, int] = (5, 20, 24)) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


@pytest.fixture
def noise() -> Callable[..., NDArray[np.int16]]:
    """``noise(seed=0, shape=(5, 20, 24))``: HU of a scan."""
    return _noise


def _write(voxels: NDArray[Any], path: Path, spacing: float = 1.25) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.7, spacing))
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def write() -> Callable[..., Path]:
    """``write(voxels, path, spacing=1.25)``: an image file, in a folder of its own if need be."""
    return _write
