"""What a run is warned of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import SimpleITK as sitk

import pmtool
from pmtool.choices import FORMATS
from pmtool.geometry.grid import make_grid, reference_grid
from pmtool.loading import load_volume
from pmtool.resampling.report import copy_text, interpolation_text


def test_copies() -> None:
    text = copy_text(make_grid(5, 2.5, 2.5))
    assert text == "slices 2.5 mm apart are there already; the output is a copy of the input's"
    assert copy_text(make_grid(5, 2.5, 1.25)) is None
    assert copy_text(make_grid(5, 2.5, 2.0)) is None
    shifted = reference_grid(5, 2.5, 2.5, 0.5, 4)
    assert shifted.counts() == {"shifted": 4}
    assert copy_text(shifted) is None
    told = interpolation_text(shifted)
    assert told is not None
    assert "4 of 4 slices are the nearest acquired or generated ones" in told


@pytest.mark.parametrize("source_spacing", [2.4942857142857, 2.0000049, 0.9999966])
def test_the_spacings_advised_avoid_interpolation_in_a_long_stack(source_spacing: float) -> None:
    text = interpolation_text(make_grid(900, source_spacing, round(source_spacing / 2, 2)))
    assert text is not None
    advised = re.findall(r"[\d.]+(?= or | mm avoids)", text)
    assert advised
    for spacing in map(float, advised):
        assert interpolation_text(make_grid(900, source_spacing, spacing)) is None


@pytest.mark.usefixtures("fake_sampler")
@pytest.mark.parametrize("suffix", FORMATS)
def test_images_made_before_are_told(ct_path: Path, tmp_path: Path, suffix: str) -> None:
    made, again = tmp_path / f"made.{suffix}", tmp_path / "again.nrrd"
    pmtool.resample(ct_path, 1.25, made)
    with pytest.warns(UserWarning, match=r"4 of the 9 slices of .*made\.\S+ were made by pmtool"):
        pmtool.resample(made, 0.625, again)
    told = json.loads((tmp_path / "again.nrrd.json").read_text())
    assert told["input"]["made_by_pmtool"] == [1, 3, 5, 7]
    assert load_volume(again).made_before == [i for i in range(17) if i % 4]


@pytest.mark.usefixtures("fake_sampler")
def test_other_images_are_not_taken_for_made_ones(ct: sitk.Image, tmp_path: Path) -> None:
    """The JSON file is of an image that was replaced, or of another program."""
    path = tmp_path / "ct.nrrd"
    made = pmtool.resample(ct, 1.25)
    sidecar = tmp_path / "ct.nrrd.json"
    sitk.WriteImage(ct, str(tmp_path / "in.nrrd"))
    pmtool.resample(tmp_path / "in.nrrd", 1.25, path)
    assert load_volume(path).made_before
    made[0, 0, 0] = 7
    sitk.WriteImage(made, str(path))
    assert not load_volume(path).made_before
    for content in ("[]", '{"files": 1, "slices": [], "input": {}}', "{}", "no JSON"):
        sidecar.write_text(content)
        assert not load_volume(path).made_before
