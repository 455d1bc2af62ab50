from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.choices import MaskInterpolation
from pmtool.errors import ContentError, GeometryError
from pmtool.geometry.grid import make_grid
from pmtool.images.image_file import read_image, write_image
from pmtool.images.volume import Volume
from pmtool.loading import load_volume
from pmtool.resampling.segmentation import load_mask, resample_mask

DTYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64]


@pytest.mark.parametrize(
    ("interpolation", "between"), [("nearest", [0, 3, 3]), ("linear", [5, 3, 3])]
)
def test_labels(interpolation: MaskInterpolation, between: list[int]) -> None:
    labels = np.zeros((2, 2, 3), np.uint8)
    labels[:, 0] = [[0, 3, 3], [5, 0, 5]]
    mask = Volume(sitk.GetImageFromArray(labels), 2, "mask")
    found = sitk.GetArrayFromImage(resample_mask(mask, make_grid(2, 1, 0.25), interpolation))
    assert found.dtype == np.uint8
    assert found[:, 0].tolist() == [[0, 3, 3], [0, 3, 3], between, [5, 0, 5], [5, 0, 5]]


def test_masks_that_do_not_fit(ct: sitk.Image, tmp_path: Path) -> None:
    path = tmp_path / "mask.nrrd"
    volume = load_volume(ct)
    ct = sitk.Cast(ct > 0, sitk.sitkUInt8)
    sitk.WriteImage(ct, str(path))
    assert load_mask(path, volume).axis == 2
    ct.SetOrigin((0, 0, 0))
    sitk.WriteImage(ct, str(path))
    with pytest.raises(GeometryError, match="another grid than the image, of other origin;"):
        load_mask(path, volume)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", ["nrrd", "nii.gz", "mha"])
def test_all_labels_of_all_types_are_kept(
    ct: sitk.Image, tmp_path: Path, dtype: Any, suffix: str
) -> None:
    labels = np.zeros((5, 12, 10), dtype)
    labels[1, 2:9, 1:4], labels[2, 2:9, 3:7] = 1, 2
    labels[3, 5, 5:7] = min(np.iinfo(dtype).max if np.dtype(dtype).kind != "f" else 200, 2**24)
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(ct)
    sitk.WriteImage(image, str(tmp_path / f"mask.{suffix}"))
    mask = load_mask(tmp_path / f"mask.{suffix}", load_volume(ct))
    for interpolation in get_args(MaskInterpolation):
        found = sitk.GetArrayFromImage(resample_mask(mask, make_grid(5, 2.5, 1.25), interpolation))
        assert found.dtype == dtype
        assert np.array_equal(found[::2], labels)
        assert np.array_equal(np.unique(found), np.unique(labels))


def test_a_mask_gets_the_images_own_geometry(ct: sitk.Image, tmp_path: Path) -> None:
    mask = sitk.Cast(ct > 0, sitk.sitkUInt8)
    mask.SetOrigin([x + 5e-4 for x in ct.GetOrigin()])
    mask.SetSpacing([s * (1 + 1e-5) for s in ct.GetSpacing()])
    sitk.WriteImage(mask, str(tmp_path / "mask.nrrd"))
    loaded = load_mask(tmp_path / "mask.nrrd", load_volume(ct))
    assert loaded.image.GetOrigin() == ct.GetOrigin()
    assert loaded.image.GetSpacing() == ct.GetSpacing()
    assert np.array_equal(loaded.slices, sitk.GetArrayViewFromImage(mask))


@pytest.mark.parametrize("flips", [(0, 1, 0), (1, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_mask_with_other_axes_is_turned(
    ct: sitk.Image, tmp_path: Path, flips: tuple[int, ...], order: tuple[int, ...]
) -> None:
    """As masks in NIfTI that other programs make of a DICOM series."""
    angle = np.radians(20)
    tilt = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    ct.SetDirection(tilt.ravel().tolist())
    mask = sitk.Cast(ct > 0, sitk.sitkUInt16) * 300
    turned = sitk.PermuteAxes(sitk.Flip(mask, [bool(flip) for flip in flips]), order)
    turned.SetMetaData("Segment0_Name", "left lung")
    sitk.WriteImage(turned, str(tmp_path / "mask.nrrd"))
    loaded = load_mask(tmp_path / "mask.nrrd", load_volume(ct))
    assert np.array_equal(
        sitk.GetArrayViewFromImage(loaded.image), sitk.GetArrayViewFromImage(mask)
    )
    assert loaded.image.GetDirection() == ct.GetDirection()
    assert loaded.image.GetMetaData("Segment0_Name") == "left lung"


def test_slices_without_labels_stay_so(ct: sitk.Image) -> None:
    empty = Volume(sitk.Image(ct.GetSize(), sitk.sitkUInt8), 2, "mask")
    found = resample_mask(empty, make_grid(5, 2.5, 1.25), "linear")
    assert found.GetSize() == (10, 12, 9)
    assert not sitk.GetArrayViewFromImage(found).any()


def test_segments_of_slicer_keep_their_names(ct: sitk.Image, tmp_path: Path) -> None:
    mask = sitk.Cast(ct > 0, sitk.sitkUInt8)
    notes = {"Segment0_Name": "left lung", "Segment0_LabelValue": "1", "Patient": "Doe"}
    grid = {"Segment0_Extent": "0 9 0 11 0 4", "Segmentation_ReferenceImageExtentOffset": "0 0 0"}
    grid["Segmentation_ConversionParameters"] = "Reference image geometry|0.7;0;0;" * 30
    for key, value in {**notes, **grid}.items():
        mask.SetMetaData(key, value)
    sitk.WriteImage(mask, str(tmp_path / "a.seg.nrrd"))
    loaded = load_mask(tmp_path / "a.seg.nrrd", load_volume(ct))
    sitk.WriteImage(resample_mask(loaded, make_grid(5, 2.5, 1.25)), str(tmp_path / "b.seg.nrrd"))
    header = (tmp_path / "b.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert {"Segment0_Name:=left lung", "Segment0_LabelValue:=1"} < set(header.splitlines())
    assert "Extent" not in header
    assert "geometry" not in header
    assert "Doe" not in header
    loaded.image.SetMetaData("Segment0_Tags", "TerminologyEntry:" * 30)
    made = resample_mask(loaded, make_grid(5, 2.5, 1.25))
    write_image(made, tmp_path / "c.mha")  # without the entries, which ITK could not read again
    assert np.array_equal(
        sitk.GetArrayFromImage(read_image(tmp_path / "c.mha")), sitk.GetArrayFromImage(made)
    )


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_floating_point_masks_hold_integers(ct: sitk.Image, tmp_path: Path, value: float) -> None:
    mask = sitk.Cast(ct > 0, sitk.sitkFloat32)
    mask[3, 4, 2] = value
    sitk.WriteImage(mask, str(tmp_path / "mask.nrrd"))
    with pytest.raises(ContentError, match="integers"):
        load_mask(tmp_path / "mask.nrrd", load_volume(ct))
