"""The real command with the real model, in a process of its own that cannot import torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.kernels.cpu import library

pytest.importorskip("onnxruntime")

WITHOUT = "import sys; sys.modules |= dict.fromkeys({!r}); from pmtool.main import main; main()"


def pmtool(*arguments: object, without: str = "torch") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT.format(without.split()), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


PEAK = """
import pathlib, re, sys
from pmtool.main import cli
cli(sys.argv[1:], standalone_mode=False)
print(re.search("VmHWM: *(.*) kB", pathlib.Path("/proc/self/status").read_text().expandtabs())[1])
"""
"""Runs a command and prints the most memory that it had, in KiB."""


def check(before: Path, after: Path) -> None:
    """All acquired slices are there, bit for bit, with new ones between them."""
    source, result = sitk.ReadImage(str(before)), sitk.ReadImage(str(after))
    old, new = (sitk.GetArrayFromImage(image) for image in (source, result))
    assert result.GetSpacing()[2] == source.GetSpacing()[2] / 2
    assert np.array_equal(new[::2], old)
    middle = (old[:-1].astype(float) + old[1:]) / 2
    field = np.minimum(old[:-1], old[1:]) >= -1024
    assert np.abs(new[1::2] - middle)[field].mean() < 150
    assert not np.array_equal(new[1], old[0])


def test_phantom(tmp_path: Path) -> None:
    before, after = tmp_path / "phantom.nrrd", tmp_path / "fine.nrrd"
    made = pmtool("phantom", before, "--size", 64, "--slices", 4, "--spacing", 2.5)
    assert made.returncode == 0, made.stderr
    done = pmtool("resample", "--spacing", 1.25, before, after)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    check(before, after)
    kinds = [s["kind"] for s in json.loads(Path(f"{after}.json").read_text())["slices"]]
    assert kinds == ["acquired", "synthesised"] * 3 + ["acquired"]
    again = tmp_path / "again.nrrd"
    said = pmtool("resample", "--spacing", 1.25, "--batch", 1, "-q", before, again).stderr
    assert said.count("\n") == (library() is None)  # which is warned of
    assert again.read_bytes() == after.read_bytes()


@pytest.mark.skipif(library() is None, reason="without it, the model takes more memory")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the most memory of a process")
@pytest.mark.parametrize(("backend", "limit"), [("onnxruntime-cpu", 400), ("openvino", 560)])
def test_memory_stays_within_the_budget(tmp_path: Path, backend: str, limit: int) -> None:
    """In both rounds, of which the second finds what the first has left."""
    if find_spec(backend.partition("-")[0]) is None:
        pytest.skip(f"{backend} is not installed")
    before, after = tmp_path / "phantom.nrrd", tmp_path / "fine.nrrd"
    assert pmtool("phantom", before, "--size", 96, "--slices", 4, "--spacing", 5).returncode == 0
    memory = ("--memory", f"{limit}M", "--backend", backend)
    asked = ("resample", "--spacing", 1.25, *memory, before, after)
    command = [sys.executable, "-c", PEAK, *map(str, asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 250 < int(done.stdout) / 1024 < limit


def test_what_the_machine_lacks(tmp_path: Path) -> None:
    before = tmp_path / "phantom.nrrd"
    assert pmtool("phantom", before, "--size", 64, "--slices", 2).returncode == 0
    arguments = ("resample", "--spacing", 1.25, before, tmp_path / "fine.nrrd")
    for done in (
        pmtool(*arguments, without="onnxruntime torch"),
        pmtool(*arguments, "--device", "abacus"),
    ):
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["phantom.nrrd"]


def test_pytorch_takes_the_place_of_onnx_runtime(tmp_path: Path) -> None:
    before, after = tmp_path / "phantom.nrrd", tmp_path / "fine.nrrd"
    assert pmtool("phantom", before, "--size", 64, "--slices", 2).returncode == 0
    done = pmtool("resample", "--spacing", 1.25, before, after, without="onnxruntime")
    assert done.returncode == 0, done.stderr
    assert "on cpu (torch, float32)" in done.stderr
    told = json.loads(Path(f"{after}.json").read_text())
    assert (told["backend"], told["precision"], told["device"]) == ("torch", "float32", "cpu")


def test_piece_of_a_scan(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    before, after = tmp_path / "piece.nii.gz", tmp_path / "fine.nii.gz"
    scan = sitk.ReadImage(str(shared("scans/LIDC-0001.nrrd")))
    sitk.WriteImage(scan[150:214, 200:264, 60:63], str(before))
    done = pmtool("resample", "--spacing", 1.25, before, after)
    assert done.returncode == 0, done.stderr
    check(before, after)


def test_python_prints_nothing(ct_path: Path) -> None:
    """Not even what the command says of a copy, through Python's handler of last resort."""
    code = f"import pmtool; pmtool.resample({str(ct_path)!r}, 2.5)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
