"""Messages advise `--series-uid` and `--allow-uneven` only where these options help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.phantom.chest import chest_phantom

for needed in ("cv2", "matplotlib", "pydicom", "scipy", "skimage"):
    pytest.importorskip(needed)
pytestmark = pytest.mark.usefixtures("fake_sampler")

ALONE, EVEN = "give a folder with one of them alone", "or give an even stack"
CHOOSE, ALLOW = "choose one by --series-uid UID", "where they lie by --allow-uneven"
EVALUATE, RESAMPLE = "evaluate --methods linear --out report", "resample thin.nrrd out.nrrd"
PREPARE = "trial prepare --out trial"
OF_DICOM = "resample two out.nrrd --series-uid 1.2.3"


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, write_dicom: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that the rows name, in the working folder: two series, one with a gap, a scan."""
    monkeypatch.chdir(tmp_path)
    voxels = np.random.default_rng(2).integers(-1000, 1000, (6, 12, 10)).astype(np.int16)
    write_dicom(Path("two"), voxels)
    write_dicom(Path("two"), voxels, SeriesInstanceUID="1.2.4")
    write_dicom(Path("gap"), voxels)[3].unlink()
    thin = chest_phantom(size=96, slices=7, spacing=(3.7, 3.7, 1.25))
    sitk.WriteImage(thin, "thin.nrrd")
    thin.SetMetaData("ITK_non_uniform_sampling_deviation", "1.0")
    sitk.WriteImage(thin, "gap.nrrd")


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (CHOOSE, "resample two out.nrrd --spacing 1.25"),
        (ALLOW, "resample gap out.nrrd --spacing 1.25"),
        ("take them as even by --allow-uneven", "resample gap.nrrd out.nrrd --spacing 1"),
        (ALONE, f"{RESAMPLE} --reference two"),
        (ALONE, f"{OF_DICOM} --reference two"),
        (ALONE, f"{OF_DICOM} --spacing 1.25 --seg two"),
        (EVEN, f"{RESAMPLE} --reference gap --allow-uneven"),
        ("give an even stack", f"{RESAMPLE} --reference gap.nrrd --allow-uneven"),
        (CHOOSE, f"{EVALUATE} two"),
        (ALONE, f"{EVALUATE} thin.nrrd two"),
        (EVEN, f"{EVALUATE} gap"),
        ("give an even stack", f"{EVALUATE} gap.nrrd"),
        (ALONE, f"{EVALUATE} thin.nrrd --external x=two"),
        (EVEN, f"{EVALUATE} thin.nrrd --external x=gap"),
        (ALONE, f"{EVALUATE} thin.nrrd --mask two"),
        (CHOOSE, f"{PREPARE} two"),
        (EVEN, f"{PREPARE} gap"),
        (ALONE, "compare two gap --reference thin.nrrd"),
        (EVEN, "compare gap two --reference thin.nrrd"),
        (ALONE, "compare thin.nrrd gap --reference two"),
        (EVEN, "compare thin.nrrd two --reference gap"),
    ],
)
def test_advice_can_be_followed(message: str, arguments: str, refused: Any) -> None:
    refused(4, message, *arguments.split(), "-q")
