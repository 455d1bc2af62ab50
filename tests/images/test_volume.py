from pathlib import Path
from typing import cast

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.errors import ContentError, GeometryError, UsageError
from pmtool.geometry.grid import make_grid
from pmtool.images.reading import ReadingOptions
from pmtool.images.volume import Volume, plane_name, through_plane_axis
from pmtool.loading import load_volume


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((0.7, 0.7, 2.5), 2),
        ((2.5, 0.7, 0.7), 0),
        ((0.7, 2.5, 0.7), 1),
        ((1.0, 1.0, 0.6), 2),
        ((1.0, 1.0, 1.0), 2),
        ((0.7, 0.8, 3.0), 2),
        ((3.0, 0.8, 0.7), 0),
    ],
)
def test_through_plane_axis(spacing: tuple[float, ...], axis: int) -> None:
    assert through_plane_axis(spacing) == axis


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_along_any_axis(ct: sitk.Image, axis: int) -> None:
    order = {0: (2, 0, 1), 1: (0, 2, 1), 2: (0, 1, 2)}[axis]
    volume = load_volume(sitk.PermuteAxes(ct, order))
    assert volume.axis == axis
    assert volume.spacing == 2.5
    assert len(volume.slices) == 5
    assert plane_name(volume, axis) == "axial"
    image = volume.empty_on(make_grid(5, 2.5, 1.25))
    assert image.GetSpacing()[axis] == 1.25
    assert image.GetSize()[axis] == 9
    volume.put_slice(image, 8, volume.slices[3])
    where = [0, 0, 0]
    where[axis] = 8
    assert image[tuple(where)] == volume.slices[3, 0, 0]
    assert image.GetOrigin() == volume.image.GetOrigin()


@pytest.mark.parametrize("name", [".", "../in", "../in/", "in/.."])
def test_a_folder_given_as_dots_has_a_name(
    name: str, ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "in")
    assert Volume(ct, 2, name).file_name == "in"
    assert load_volume(ct).file_name == "the image"


def test_the_voxels_are_not_copied(ct: sitk.Image) -> None:
    address = sitk.GetArrayViewFromImage(ct).ctypes.data
    assert load_volume(ct).slices.ctypes.data == address


def test_the_slices_keep_their_image_alive(ct: sitk.Image) -> None:
    expected = sitk.GetArrayFromImage(ct)
    slices = load_volume(sitk.GetImageFromArray(expected)).slices
    others = [np.ones_like(expected) for _ in range(50)]
    assert not any(np.shares_memory(slices, other) for other in others)
    np.testing.assert_array_equal(slices, expected)


def test_origin_moves_along_the_slices(ct: sitk.Image) -> None:
    ct.SetDirection([1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8])
    image = load_volume(ct).empty_on(make_grid(5, 2.5, 1.25, "ibsi"))
    moved = np.array(image.GetOrigin()) - np.array(ct.GetOrigin())
    assert moved == pytest.approx(np.array([0, -0.6, 0.8]) * -0.625)


def test_digest_tells_volumes_apart(ct: sitk.Image) -> None:
    digest = load_volume(ct).digest()
    assert digest == load_volume(sitk.Image(ct)).digest()
    ct[0, 0, 0] += 1
    assert digest != load_volume(ct).digest()


def test_thickness(ct: sitk.Image) -> None:
    assert load_volume(ct).thickness == load_volume(ct).spacing == 2.5
    assert load_volume(ct, ReadingOptions(thickness=5)).thickness == 5
    for wrong in (0, -1, np.inf, np.nan, "5"):
        with pytest.raises(UsageError, match="is not a thickness of a slice"):
            load_volume(ct, ReadingOptions(thickness=cast(float, wrong)))


def test_what_is_no_volume() -> None:
    with pytest.raises(GeometryError, match="single slice"):
        load_volume(sitk.Image([8, 8, 1], sitk.sitkInt16))
    with pytest.raises(GeometryError, match="dimensions"):
        load_volume(sitk.Image([8, 8], sitk.sitkInt16))
    with pytest.raises(ContentError, match="values"):
        load_volume(sitk.Image([8, 8, 8], sitk.sitkVectorUInt8, 3))
