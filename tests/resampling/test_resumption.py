"""Runs that go on, and complete ones, with averages in place of a network."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import pmtool
from pmtool.errors import OutputError, UsageError

pytestmark = pytest.mark.usefixtures("fake_sampler")


def test_an_interrupted_run_goes_on(ct_path: Path, tmp_path: Path, fake_sampler: Any) -> None:
    expected = sitk.GetArrayFromImage(pmtool.resample(ct_path, 0.625))
    out = tmp_path / "out.nrrd"
    fake_sampler.calls.clear()
    fake_sampler.interrupt_after = 6
    with pytest.raises(KeyboardInterrupt):
        pmtool.resample(ct_path, 0.625, out)
    assert {p.name for p in tmp_path.iterdir()} == {"ct.nrrd", "out.nrrd.partial"}
    fake_sampler.interrupt_after = None
    with pytest.raises(UsageError, match="--resume"):
        pmtool.resample(ct_path, 0.625, out)
    with pytest.raises(UsageError, match="seed"):
        pmtool.resample(ct_path, 0.625, out, resume=True, seed=1)
    told: list[tuple[float, int]] = []
    pmtool.resample(ct_path, 0.625, out, resume=True, progress=lambda *state: told.append(state))
    assert len(fake_sampler.calls) == 12
    assert told[0] == (7, 12)
    assert told[-1] == (12, 12)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(out))), expected)


def test_files_of_an_earlier_volume_are_told(
    ct: sitk.Image, ct_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They keep their names beside the new one; nothing is told of those that are made again."""
    mask, out = tmp_path / "mask.nrrd", tmp_path / "out.nrrd"
    sitk.WriteImage(sitk.Cast(ct > 0, sitk.sitkUInt8), str(mask))
    pmtool.resample(ct_path, 1.25, out, segmentation=mask, statistics=tmp_path / "s.json")
    for seed in (1, 2):
        caplog.clear()
        options: dict[str, Any] = {"segmentation": mask} if seed == 2 else {}
        pmtool.resample(ct_path, 1.25, out, seed=seed, overwrite=True, **options)
        (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
        kinds = "statistics" if seed == 2 else "mask, statistics"
        assert f"earlier volume of this name were not made anew ({kinds}): " in told


def test_room_is_asked_for_what_is_missing(
    ct_path: Path, tmp_path: Path, fake_sampler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    module = "pmtool.resampling.resumption.check_disk_for"
    monkeypatch.setattr(module, lambda *given: asked.append(given[-1]))
    fake_sampler.interrupt_after = 6
    with pytest.raises(KeyboardInterrupt):
        pmtool.resample(ct_path, 0.625, tmp_path / "out.nrrd")
    fake_sampler.interrupt_after = None
    pmtool.resample(ct_path, 0.625, tmp_path / "out.nrrd", resume=True)
    kept = 12 - (len(fake_sampler.calls) - 6)
    assert asked == [12, 12 - kept]


def test_a_complete_run_needs_no_room(
    ct_path: Path, tmp_path: Path, fake_sampler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may be full of what was made; nothing is written again."""
    out = tmp_path / "out.nrrd"
    pmtool.resample(ct_path, 1.25, out)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    pmtool.resample(ct_path, 1.25, out, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(OutputError, match="make room or choose another disk"):
        pmtool.resample(ct_path, 1.25, out, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_complete_run_is_not_another_one(
    ct: sitk.Image, ct_path: Path, tmp_path: Path, fake_sampler: Any
) -> None:
    """Though its volume would be the same: other labels, another method, more samples."""
    masks = [tmp_path / "m1.nrrd", tmp_path / "m2.nrrd"]
    for number, mask in enumerate(masks):
        sitk.WriteImage(sitk.Cast(ct > 500 * number, sitk.sitkUInt8), str(mask))
    first: dict[str, Any] = {
        "segmentation": masks[0],
        "segmentation_out": tmp_path / "seg.nrrd",
        "uncertainty": tmp_path / "sd.nrrd",
        "samples": 2,
    }
    pmtool.resample(ct_path, 1.25, tmp_path / "out.nrrd", **first)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    fake_sampler.calls.clear()
    pmtool.resample(ct_path, 1.25, tmp_path / "out.nrrd", resume=True, **first)
    for change in (
        {"segmentation": masks[1]},
        {"segmentation_interpolation": "linear"},
        {"samples": 4},
    ):
        with pytest.raises(OutputError, match="exists; replace it with --overwrite"):
            pmtool.resample(
                ct_path, 1.25, tmp_path / "out.nrrd", resume=True, **{**first, **change}
            )
    assert fake_sampler.calls == []
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_complete_run_gets_what_it_lacks(
    ct: sitk.Image,
    ct_path: Path,
    tmp_path: Path,
    fake_sampler: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, mask = tmp_path / "out.nrrd", tmp_path / "mask.nrrd"
    sitk.WriteImage(sitk.Cast(ct > 0, sitk.sitkUInt8), str(mask))
    seg: dict[str, Any] = {"segmentation": mask, "segmentation_out": tmp_path / "seg.nrrd"}
    look: dict[str, Any] = {"preview": tmp_path / "look.png", "resume": True}
    pmtool.resample(ct_path, 1.25, tmp_path / "other.nrrd", preview=tmp_path / "other.png")
    pmtool.resample(ct_path, 1.25, out, **seg)
    before = {path: path.stat().st_mtime_ns for path in (out, tmp_path / "seg.nrrd")}
    told = json.loads(Path(f"{out}.json").read_text())
    fake_sampler.calls.clear()
    monkeypatch.setattr(fake_sampler, "device", "another")
    added = pmtool.resample(ct_path, 1.25, out, **look)
    assert fake_sampler.calls == []
    assert added.GetSize() == (10, 12, 9)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert look["preview"].read_bytes() == (tmp_path / "other.png").read_bytes()
    now = json.loads(Path(f"{out}.json").read_text())
    assert set(now["files"]) == {"image", "segmentation_out", "preview"}
    assert now == {**told, "files": now["files"]}
    content = {path: path.read_bytes() for path in tmp_path.iterdir()}
    pmtool.resample(ct_path, 1.25, out, **seg, **look)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_what_a_complete_run_lacks_replaces_nothing(
    ct_path: Path, tmp_path: Path, fake_sampler: Any
) -> None:
    out, look = tmp_path / "out.nrrd", tmp_path / "look.png"
    pmtool.resample(ct_path, 1.25, out)
    look.write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=r"look\.png exists; replace it with --overwrite"):
        pmtool.resample(ct_path, 1.25, out, resume=True, preview=look)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    fake_sampler.calls.clear()
    pmtool.resample(ct_path, 1.25, out, resume=True, overwrite=True, preview=look)
    assert fake_sampler.calls == []
    assert look.read_bytes() != b"mine"


@pytest.mark.parametrize("written", ["write_bytes", "write_json"])
def test_a_complete_run_that_is_stopped_while_it_gets_what_it_lacks(
    ct_path: Path,
    tmp_path: Path,
    fake_sampler: Any,
    monkeypatch: pytest.MonkeyPatch,
    written: str,
) -> None:
    """Before its preview is written, or before the sidecar is."""
    out, look = tmp_path / "out.nrrd", tmp_path / "look.png"
    pmtool.resample(ct_path, 1.25, out)
    before = out.stat().st_mtime_ns
    fake_sampler.calls.clear()
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise OutputError("the disk is full")

        patch.setattr(f"pmtool.resampling.resample.{written}", fail)
        with pytest.raises(OutputError, match="full"):
            pmtool.resample(ct_path, 1.25, out, resume=True, preview=look)
    with pytest.raises(OutputError, match="exists"):  # another run leaves no trace
        pmtool.resample(ct_path, 1.25, out, resume=True, seed=1)
    pmtool.resample(ct_path, 1.25, out, resume=True, preview=look)
    assert fake_sampler.calls == []
    assert out.stat().st_mtime_ns == before
    names = {"ct.nrrd", "out.nrrd", "out.nrrd.json", "look.png"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_complete_run_that_was_changed_is_not_believed(
    ct_path: Path, tmp_path: Path, fake_sampler: Any
) -> None:
    out = tmp_path / "out.nrrd"
    pmtool.resample(ct_path, 1.25, out)
    for content in (b"", ct_path.read_bytes()):
        out.write_bytes(content)
        with pytest.raises(OutputError, match="exists; replace it with --overwrite"):
            pmtool.resample(ct_path, 1.25, out, resume=True)
        assert out.read_bytes() == content
    pmtool.resample(ct_path, 1.25, out, resume=True, overwrite=True)
    assert sitk.ReadImage(str(out)).GetSize() == (10, 12, 9)


def test_a_volume_that_cannot_be_replaced_keeps_its_sidecar(
    ct_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.nrrd"
    pmtool.resample(ct_path, 1.25, out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OutputError("no")

    monkeypatch.setattr("pmtool.resampling.resample.write_image", fail)
    with pytest.raises(OutputError, match="no"):
        pmtool.resample(ct_path, 1.25, out, seed=1, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.glob("*") if path.is_file()} == before
