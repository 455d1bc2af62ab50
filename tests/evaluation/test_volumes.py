"""Many scans are evaluated in the memory of one, which is read again when its turn comes."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.cli.console import run_command
from pmtool.errors import InputError
from pmtool.evaluation import commands
from pmtool.evaluation.packed import PackedMask
from pmtool.evaluation.run import run_evaluation
from pmtool.evaluation.volumes import Volumes
from pmtool.images.reading import ReadingOptions
from pmtool.images.volume import Volume
from pmtool.loading import load_ct, load_volume
from pmtool.main import cli
from pmtool.models.bundle import Bundle
from pmtool.phantom.chest import chest_phantom

pytest.importorskip("cv2")
pytest.importorskip("matplotlib")
pytest.importorskip("skimage")


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    """Three scans of 7 slices, the second and fourth of which are linear in their neighbours."""
    paths = [tmp_path / f"{name}.nrrd" for name in "abc"]
    for seed, path in enumerate(paths):
        image = chest_phantom(size=96, slices=7, spacing=(3.7, 3.7, 1.25), seed=seed)
        values = sitk.GetArrayFromImage(image)
        values[1:4:2] = (values[:3:2].astype(int) + values[2:5:2]) // 2
        made = sitk.GetImageFromArray(values)
        made.CopyInformation(image)
        sitk.WriteImage(made, str(path))
    return paths


def external(path: Path) -> Path:
    """A copy of a scan, as another tool's slices."""
    copy = path.with_name(f"other-{path.name}")
    copy.write_bytes(path.read_bytes())
    return copy


def evaluate(*arguments: object) -> int:
    options = ("--methods", "linear", "--slices", 1, "--workers", 1, "-q")
    return run_command(cli, [str(x) for x in ("evaluate", *options, *arguments)])


def whole_volumes() -> int:
    """Number of volumes in memory, but for single slices."""
    return sum(type(x) is Volume and len(x.slices) > 1 for x in gc.get_objects())


class Reads:
    """What was read, and the most volumes that were in memory after any reading."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.most, self._others = 0, whole_volumes()

    def __call__(self, path: Path, reading: ReadingOptions) -> Volume:
        volume = load_ct(path, reading)
        self.names.append(path.stem)
        self.most = max(self.most, whole_volumes() - self._others)
        return volume


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    found = Reads()
    for module in ("scan", "methods"):
        monkeypatch.setattr(f"pmtool.evaluation.{module}.load_ct", found)
    return found


def test_one_scan_is_in_memory(
    scans: list[Path],
    tmp_path: Path,
    reads: Reads,
    fake_sampler: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With its kept slices and the other tool's volume; each scan's warning is given once."""
    monkeypatch.setattr("pmtool.evaluation.method_options.Sampler", fake_sampler)
    monkeypatch.setattr(fake_sampler, "bundle", Bundle.load(None), False)
    mask = tmp_path / "mask.nrrd"
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(scans[0])) > 0, sitk.sitkUInt8), str(mask))
    others = [x for path in scans for x in ("--external", f"x={external(path)}", "--mask", mask)]
    arguments = (*scans, *others, "--methods", "linear,pixelminer", "--out", tmp_path / "report")
    assert evaluate(*arguments) == 0
    assert reads.most <= 3
    told = capsys.readouterr().err
    assert [told.count(f"{path} repeat their neighbours") for path in scans] == [1, 1, 1]
    reads.names.clear()
    assert evaluate(*arguments) == 0  # everything is scored; the pictures are made again
    assert reads.names == ["a", "b", "c", "other-a", "other-b", "other-c", "a", "other-a"]


def test_a_single_scan_is_read_once(scans: list[Path], tmp_path: Path, reads: Reads) -> None:
    scan, other = scans[0], external(scans[0])
    assert evaluate(scan, "--external", f"x={other}", "--out", tmp_path / "report") == 0
    assert reads.names == ["a", "other-a"]
    reads.names.clear()
    volumes = (other, scans[1], "--reference", scan, "--out", tmp_path / "compared")
    assert run_command(cli, ["compare", "-q", "--workers", "1", *map(str, volumes)]) == 0
    assert reads.names == ["a", "other-a", "b"]


@pytest.fixture
def before_the_work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something happen between the checks of an evaluation and its work."""

    def happen(change: Callable[[], object]) -> None:
        def run(*arguments: Any) -> Any:
            change()
            return run_evaluation(*arguments)

        monkeypatch.setattr(commands, "run_evaluation", run)

    return happen


def test_a_scan_that_changes_is_refused(
    scans: list[Path],
    tmp_path: Path,
    before_the_work: Callable[[Callable[[], object]], None],
    refused: Callable[..., None],
) -> None:
    (tmp_path / "report" / "cache").mkdir(parents=True)
    options = ("--methods", "linear", "--workers", 1, "-q", "--out", tmp_path / "report")
    before_the_work(lambda: scans[0].write_bytes(scans[1].read_bytes()))
    refused(3, "has changed since it was first read", "evaluate", *scans, *options)


def test_a_scan_that_vanishes_is_named(
    scans: list[Path],
    tmp_path: Path,
    before_the_work: Callable[[Callable[[], object]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before_the_work(scans[0].unlink)
    assert evaluate(*scans, "--out", tmp_path / "report") == 3
    assert f"pmtool: {scans[0]} does not exist; give" in capsys.readouterr().err


def test_volumes_are_read_again_as_they_were(ct: sitk.Image) -> None:
    times, thickness = [], [2.0]

    def read(name: str) -> Volume:
        warnings.warn(f"of {name}", stacklevel=1)
        times.append(name)
        return load_volume(ct, ReadingOptions(thickness=thickness[-1]))

    volumes = Volumes({name: partial(read, name) for name in "ab"})
    assert (volumes.names, times) == (["a", "b"], [])
    with pytest.warns(UserWarning, match="of a"):
        assert volumes["a"] is volumes["a"]
    with pytest.warns(UserWarning, match="of b"):
        assert volumes.digest("b") == volumes.digest("a")
    assert times == ["a", "b"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert volumes["a"].thickness == 2
    assert times == ["a", "b", "a"]
    thickness.append(3.0)
    with pytest.raises(InputError, match="has changed"):
        volumes["b"]


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 8, 4)])
def test_packed_masks(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(1).random(shape) < 0.3
    packed = PackedMask(mask)
    assert all(np.array_equal(packed[index], values) for index, values in enumerate(mask))
    assert packed[0].dtype == np.bool_
    assert not packed.is_empty
    assert PackedMask(mask & False).is_empty
