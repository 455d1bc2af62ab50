"""Scans for an evaluation, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import pmtool
from pmtool.errors import ContentError, GeometryError, UsageError
from pmtool.evaluation.scan import ThinScan, dependent_slices, distinct_names, load_scans
from pmtool.evaluation.store import Store
from pmtool.evaluation.volumes import Volumes
from pmtool.geometry.grid import make_grid
from pmtool.images.reading import ReadingOptions
from pmtool.images.volume import Volume
from pmtool.loading import load_volume
from pmtool.phantom.chest import chest_phantom


@pytest.fixture
def phantom() -> sitk.Image:
    return chest_phantom(size=96, slices=7, spacing=(3.7, 3.7, 1.25))


def write(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path))
    return path


def load_scan(path: Path, mask: Path | None = None, **reading: Any) -> ThinScan:
    (scan,) = load_scans([path], [mask], ReadingOptions(**reading))
    return scan


def test_every_second_slice_is_dropped(phantom: sitk.Image, tmp_path: Path) -> None:
    scan = load_scan(write(phantom, tmp_path / "scan.nrrd"))
    assert list(scan.dropped) == [1, 3, 5]
    assert (scan.kept.spacing, scan.kept.thickness) == (2.5, 1.25)
    assert np.array_equal(scan.kept.slices, scan.volume.slices[::2])
    assert scan.grid == make_grid(4, scan.kept.spacing, 1.25)
    assert np.array_equal(scan.truth(3), scan.volume.slices[3])
    even = load_scan(write(phantom[:, :, :6], tmp_path / "even.nrrd"))
    assert list(even.dropped) == [1, 3]  # nothing is kept after the fifth
    assert scan.region(3).any()


def test_own_region(phantom: sitk.Image, tmp_path: Path) -> None:
    path = write(phantom, tmp_path / "scan.nrrd")
    mask = sitk.Cast(phantom > 0, sitk.sitkUInt8)
    scan = load_scan(path, write(mask, tmp_path / "mask.nrrd"))
    assert np.array_equal(scan.region(2), sitk.GetArrayFromImage(mask)[2] > 0)
    with pytest.raises(ContentError, match="is empty"):
        load_scan(path, write(mask * 0, tmp_path / "empty.nrrd"))
    with pytest.raises(GeometryError, match="another grid"):
        load_scan(path, write(mask[:, :, 1:], tmp_path / "short.nrrd"))


def test_a_mask_is_hashed_once(phantom: sitk.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not again for every slice and method."""
    hashed = []
    digest = Volume.digest

    def counted(volume: Volume) -> str:
        hashed.append(volume.name)
        return digest(volume)

    monkeypatch.setattr(Volume, "digest", counted)
    volume, mask = Volume(phantom, 2, "a"), Volume(phantom, 2, "mask")
    scan, store = ThinScan("a", Volumes({"a": lambda: volume}), mask), Store(Path())
    assert [store.get(scan, index, {}) for index in (1, 3)] == [None, None]
    assert sorted(hashed) == ["a", "mask"]


def test_bad_input(phantom: sitk.Image, tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="2 slices"):
        load_scan(write(phantom[:, :, :2], tmp_path / "two.nrrd"))
    solid = write(sitk.Maximum(phantom, -200), tmp_path / "solid.nrrd")
    with pytest.raises(ContentError, match=r"no lung .* --mask"):
        load_scan(solid, assume_hu=True)
    with pytest.raises(UsageError, match="by even slices only"):
        load_scan(solid, allow_uneven=True)


def test_interpolated_scans_are_told(phantom: sitk.Image, tmp_path: Path) -> None:
    assert dependent_slices(load_volume(phantom)) == []
    thick = sitk.Cast(phantom[:, :, ::2], sitk.sitkFloat64)
    linear = sitk.Resample(thick, phantom)
    linear = sitk.Cast(sitk.Round(linear), sitk.sitkInt16)
    assert dependent_slices(load_volume(linear)) == [1, 3, 5]
    with pytest.warns(UserWarning, match=r"3 of 7 slices .* interpolated already"):
        load_scan(write(linear, tmp_path / "linear.nrrd"))
    repeated = sitk.JoinSeries([phantom[:, :, i] for i in (0, 0, 1, 2, 2, 3)])
    assert dependent_slices(load_volume(repeated)) == [1, 3, 4]


@pytest.mark.usefixtures("fake_sampler")
def test_scans_with_made_slices_are_told(phantom: sitk.Image, tmp_path: Path) -> None:
    made = tmp_path / "made.nrrd"
    pmtool.resample(write(phantom, tmp_path / "phantom.nrrd"), 0.625, made)
    with (
        pytest.warns(UserWarning, match=r"6 of the 13 slices .* evaluate on the original series"),
        pytest.warns(UserWarning, match="interpolated already"),
    ):
        load_scan(made)


def test_scans_are_told_apart_by_the_folders_above_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "a" / "ct.nrrd", tmp_path / "b" / "ct.nrrd", tmp_path / "b" / "other.nrrd"]
    assert distinct_names(paths) == ["a/ct.nrrd", "b/ct.nrrd", "b/other.nrrd"]
    assert distinct_names(paths[1:]) == ["ct.nrrd", "other.nrrd"]
    paths[0].parent.mkdir()
    monkeypatch.chdir(paths[0].parent)
    assert distinct_names([Path(), paths[1]]) == ["a", "ct.nrrd"]
    for twice in (Path("ct.nrrd"), Path("..", "a", "ct.nrrd")):
        with pytest.raises(UsageError, match=r"a/ct.nrrd is given more than once; give each scan"):
            distinct_names([paths[1], paths[0], twice])


def test_links_keep_their_own_names(tmp_path: Path) -> None:
    """As in a folder of blobs, named by their hashes, to which the files of data sets are links."""
    paths = [tmp_path / name / "ct.nrrd" for name in ("one", "two", "twice")]
    for path, blob in zip(paths, ("f00", "ba5", "ba5"), strict=True):
        path.parent.mkdir()
        path.symlink_to(tmp_path / "blobs" / blob)
    assert distinct_names(paths[:2]) == ["one/ct.nrrd", "two/ct.nrrd"]
    with pytest.raises(UsageError, match=r"two/ct.nrrd is given more than once"):
        distinct_names(paths)
