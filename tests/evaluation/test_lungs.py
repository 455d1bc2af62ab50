from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from pmtool.evaluation.lungs import air_in_lungs, lung_region
from pmtool.phantom.chest import chest_phantom


def body() -> np.ndarray[tuple[int, int, int], np.dtype[np.int16]]:
    """Five slices of a body in air, with lungs, a vessel in one and gas in the bowel."""
    values = np.full((5, 100, 100), -1000, np.int16)
    values[:, 5:95, 5:95] = 0
    values[:, 20:60, 15:40] = -800
    values[:, 20:60, 60:85] = -850
    values[:, 38:42, 25:29] = 50
    values[:, 75:85, 45:55] = -900
    return values


def test_what_is_lung() -> None:
    air = air_in_lungs(body(), (1, 1))
    region = lung_region(air[2], (1, 1))
    assert region[20:60, 15:40].all()  # with the vessel
    assert region[20:60, 60:85].all()
    assert region[18:20, 20:30].all()  # and a border
    assert not region[:15].any()
    assert not region[70:].any()  # neither bowel nor air around the body
    assert not region[20:60, 45:55].any()


def test_no_lung() -> None:
    values = np.where(body() < -320, np.int16(0), body())
    assert not air_in_lungs(values, (1, 1)).any()
    assert not air_in_lungs(body(), (0.2, 0.2)).any()  # 40 mm^2 are none
    assert not lung_region(np.zeros((50, 50), np.bool_), (1, 1)).any()


def test_phantom() -> None:
    image = chest_phantom(size=128, slices=4, spacing=(2.8, 2.8, 2.5))
    air = air_in_lungs(sitk.GetArrayViewFromImage(image), (2.8, 2.8))
    assert 0.15 < lung_region(air[1], (2.8, 2.8)).mean() < 0.3


def test_real_scan(shared: Callable[[str], Path]) -> None:
    image = sitk.ReadImage(str(shared("scans/LIDC-0001.nrrd")))[:, :, :81:8]
    spacing = image.GetSpacing()[1::-1]
    air = air_in_lungs(sitk.GetArrayViewFromImage(image), spacing)
    shares = [float(lung_region(plane, spacing).mean()) for plane in air]
    assert max(shares[:3]) == 0  # abdomen, with gas
    assert 0.15 < shares[-1] < 0.3  # heart
