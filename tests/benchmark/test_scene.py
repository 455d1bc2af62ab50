"""What a benchmark generates: slices of a phantom or of a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.benchmark.scene import make_scene
from pmtool.errors import GeometryError


def test_scene_of_a_phantom() -> None:
    scene = make_scene(None, 2, 64)
    assert len(scene.pairs) == len(scene.truths) == 2
    assert np.array_equal(scene.pairs[0].below, scene.pairs[1].above)
    assert scene.busiest(64) == (1, 0, 0)
    assert scene.pairs[0].relative_thickness == 0.5


def test_scene_of_a_scan(tmp_path: Path) -> None:
    slices = np.arange(9, dtype=np.int16)[:, None, None] * np.ones((9, 8, 8), np.int16) - 500
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(slices), str(path))
    scene = make_scene(path, 2, 512)
    assert [int(truth[0, 0]) for truth in scene.truths] == [-497, -495]
    assert [int(pair.above[0, 0]) for pair in scene.pairs] == [-498, -496]
    sitk.WriteImage(sitk.GetImageFromArray(slices[::8]), str(path))
    with pytest.raises(GeometryError, match="three or more"):
        make_scene(path, 2, 512)


def test_values_of_a_scan_are_rounded_and_limited(tmp_path: Path) -> None:
    slices = np.full((3, 8, 8), -600.7, np.float32)
    slices[1, 0, 0] = 40_000
    path = tmp_path / "scan.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(slices), str(path))
    (truth,) = make_scene(path, 2, 512).truths
    assert (truth[0, 0], truth[4, 4]) == (32767, -601)
