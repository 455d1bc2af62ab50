"""A process that writes a DICOM series and is killed: never half a folder, and resumed the same."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.phantom.chest import chest_phantom

PATIENCE = 60.0


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "pmtool", "resample", "in", "--spacing", "1.25", "-q", *more)
    return subprocess.Popen(command, cwd=folder, text=True, stderr=subprocess.PIPE)


def finish(folder: Path, *more: str) -> None:
    process = start(folder, *more)
    _, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told) == (0, "")


def kill_at(folder: Path, pattern: str, *more: str) -> None:
    """Kill a run as soon as there is a path like this."""
    process, end = start(folder, *more), time.monotonic() + PATIENCE
    while not any(folder.glob(pattern)) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.0005)
    process.kill()
    process.communicate()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_at_any_step(tmp_path: Path, write_dicom: Callable[..., list[Path]]) -> None:
    pytest.importorskip("onnxruntime")
    voxels = sitk.GetArrayFromImage(chest_phantom(size=32, slices=3))
    write_dicom(tmp_path / "in", np.maximum(voxels, -1024))
    finish(tmp_path, "whole/")
    expected = contents(tmp_path / "whole")
    out = tmp_path / "out"
    for pattern in (".out.*.tmp/made/0003.dcm", "out"):
        kill_at(tmp_path, pattern, "out/")
        assert not out.exists() or contents(out) == expected
        finish(tmp_path, "out/", "--resume")
        assert contents(out) == expected
        left = {path.name for path in tmp_path.iterdir() if "out" in path.name}
        assert left == {"out", "out.json"}
        (tmp_path / "out.json").unlink()
        out.rename(tmp_path / pattern[-3:])
    kill_at(tmp_path, ".whole.*.tmp/made/0003.dcm", "whole/", "--overwrite", "--seed", "1")
    assert contents(tmp_path / "whole") == expected
    finish(tmp_path, "whole/", "--resume", "--seed", "1")
    assert contents(tmp_path / "whole").keys() == expected.keys()
    assert contents(tmp_path / "whole") != expected
