"""The limit of input size reaches every input of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from pmtool import limits, resample
from pmtool.errors import MemoryBudgetError


@pytest.mark.usefixtures("fake_sampler")
@pytest.mark.parametrize("large", ["image", "mask", "reference"])
def test_the_limit_holds_for_all_inputs(
    large: str, ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is refused while larger than the limit, and read where that is lifted."""
    files = {name: tmp_path / f"{name}.nrrd" for name in ("image", "mask", "reference")}
    for name, path in files.items():
        kind = sitk.sitkFloat64 if name == large else sitk.sitkInt16
        sitk.WriteImage(sitk.Cast(ct, kind), str(path))
    monkeypatch.setattr(limits, "MAX_INPUT", 2 * ct.GetNumberOfPixels())
    options: dict[str, Any] = {"reference": files["reference"], "segmentation": files["mask"]}
    options |= {"segmentation_out": tmp_path / "labels.nrrd"}
    with pytest.raises(MemoryBudgetError, match=f"{large}.nrrd unpacks to .* --allow-large"):
        resample(files["image"], None, tmp_path / "out.nrrd", **options)
    resample(files["image"], None, tmp_path / "out.nrrd", **options, allow_large=True)
    assert (tmp_path / "labels.nrrd").exists()
