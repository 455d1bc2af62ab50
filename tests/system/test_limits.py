"""The limit of input size reaches every input of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
import SimpleITK as sitk

from pmtool import resample
from pmtool.errors import MemoryBudgetError
from pmtool.system import cgroups, limits


@pytest.mark.usefixtures("fake_sampler")
@pytest.mark.parametrize("large", ["image", "mask", "reference"])
def test_the_limit_holds_for_all_inputs(
    large: str, ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is refused while larger than the limit, and read where that is lifted."""
    files = {name: tmp_path / f"{name}.nrrd" for name in ("image", "mask", "reference")}
    for name, path in files.items():
        kind = sitk.sitkFloat64 if name == large else sitk.sitkInt16
        sitk.WriteImage(sitk.Cast(sitk.Abs(ct) if name == "mask" else ct, kind), str(path))
    monkeypatch.setattr(limits, "MAX_INPUT", 2 * ct.GetNumberOfPixels())
    options: dict[str, Any] = {"reference": files["reference"], "segmentation": files["mask"]}
    options |= {"segmentation_out": tmp_path / "labels.nrrd"}
    with pytest.raises(MemoryBudgetError, match=f"{large}.nrrd unpacks to .* --allow-large"):
        resample(files["image"], None, tmp_path / "out.nrrd", **options)
    resample(files["image"], None, tmp_path / "out.nrrd", **options, allow_large=True)
    assert (tmp_path / "labels.nrrd").exists()


def control_group(folder: Path, files: tuple[str, str, str], *values: object) -> None:
    """A limit and a use of memory, and the cache among it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / files[0]).write_text(f"{values[0]}\n")
    (folder / files[1]).write_text(f"{values[1]}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{files[2]} {values[2]}\n")


@pytest.fixture(params=["1", "2"])
def groups(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, tuple[str, str, str]]:
    """The place of a tree of control groups, and the names of its files."""
    own = {"1": "9:cpu,memory:/job/step\n0::/\n", "2": "0::/job/step\n"}[request.param]
    (tmp_path / "own").write_text(f"2:cpuset:/job\n{own}")
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "own")
    if request.param == "2":
        return tmp_path, ("memory.max", "memory.current", "inactive_file")
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return tmp_path / "memory", first


def test_memory_within_a_container_or_a_job(groups: tuple[Path, tuple[str, str, str]]) -> None:
    root, files = groups
    control_group(root / "job" / "step", files, "max", 2**20, 0)
    control_group(root / "job", files, 2**24, 2**23, 2**20)
    control_group(root, files, 2**62, 2**30, 0)
    assert limits.total_memory() == 2**24
    assert limits.free_memory() == 2**23 + 2**20
    control_group(root / "job" / "step", files, 2**22, 2**23, 0)
    assert limits.total_memory() == 2**22
    assert limits.free_memory() == 0


def quota(folder: Path, version: str, microseconds: int) -> None:
    """CPU time granted in 0.1 s; none where it is negative."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == "2":
        told = "max" if microseconds < 0 else microseconds
        (folder / "cpu.max").write_text(f"{told} 100000\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{microseconds}\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")


def test_cpus_within_a_container(
    groups: tuple[Path, tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, files = groups
    version = "2" if files[0] == "memory.max" else "1"
    root = root if version == "2" else root.with_name("cpu")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(64))
    quota(root / "job" / "step", version, -1)
    assert limits.cpu_count() == 64
    quota(root / "job", version, 250_000)
    assert limits.cpu_count() == 3
    quota(root, version, 5_000)
    assert limits.cpu_count() == 1


def test_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "none")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(64))
    assert limits.cpu_count() == 64
    assert limits.total_memory() == psutil.virtual_memory().total
    assert limits.free_memory() > 0
