"""Scans of thick slices from thin ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.errors import OutputError, UsageError


@pytest.mark.parametrize(
    ("slices", "every", "expected"), [(1, 1, 13), (1, 2, 7), (4, 2, 5), (3, 3, 4), (13, 5, 1)]
)
def test_thick_slices_lie_in_the_middle_of_theirs(
    slices: int, every: int, expected: int, script: Callable[[str], Any]
) -> None:
    spacing, origin = (0.7, 0.8, 1.25), (-100.0, 40.0, 300.0)
    hu = np.tile(10 * np.arange(13, dtype=np.int16)[:, None, None], (1, 5, 6))
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, -1))
    thick = script("thicker").thicker(image, slices, every)
    assert thick.GetSize() == (6, 5, expected)
    assert thick.GetSpacing() == (0.7, 0.8, 1.25 * every)
    for number in range(expected):
        place = image.TransformPhysicalPointToContinuousIndex(
            thick.TransformIndexToPhysicalPoint((0, 0, number))
        )
        assert place == pytest.approx((0, 0, number * every + (slices - 1) / 2))
        assert thick[0, 0, number] == 10 * place[2]


def test_command(tmp_path: Path, script: Callable[[str], Any]) -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (9, 20, 20)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(hu), str(tmp_path / "thin.nrrd"))
    files = [str(tmp_path / name) for name in ("thin.nrrd", "thick.nrrd")]
    script("thicker").main([*files, "--slices", "2", "--every", "3"], standalone_mode=False)
    found = sitk.GetArrayFromImage(sitk.ReadImage(files[1]))
    expected = [np.rint(hu[z : z + 2].mean(axis=0)) for z in (0, 3, 6)]
    np.testing.assert_array_equal(found, expected)
    asked = [*files, "--slices", "10", "--every", "1"]
    with pytest.raises(OutputError, match="exists"):
        script("thicker").main(asked, standalone_mode=False)
    with pytest.raises(UsageError, match="has only 9 slices"):
        script("thicker").main([*asked, "--overwrite"], standalone_mode=False)
