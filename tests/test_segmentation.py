from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.errors import ContentError, GeometryError
from pmtool.grid import make_grid
from pmtool.options import MaskInterpolation
from pmtool.segmentation import load_mask, resample_mask
from pmtool.volume import Volume, load_volume


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
    sitk.WriteImage(sitk.Cast(ct, sitk.sitkFloat32) + 0.5, str(path))
    with pytest.raises(ContentError, match="integers"):
        load_mask(path, volume)
    ct = sitk.Cast(ct > 0, sitk.sitkUInt8)
    sitk.WriteImage(ct, str(path))
    assert load_mask(path, volume).axis == 2
    ct.SetOrigin((0, 0, 0))
    sitk.WriteImage(ct, str(path))
    with pytest.raises(GeometryError, match="another grid"):
        load_mask(path, volume)
