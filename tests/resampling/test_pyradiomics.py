"""The hand-off to pyradiomics, as docs/python.md describes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import pmtool

extraction = pytest.importorskip("radiomics.featureextractor")
operations = pytest.importorskip("radiomics.imageoperations")

X, Y, Z = slice(2, 9), slice(3, 11), slice(1, 8)
"""A box in the fine volume; half of its slices are generated."""


@pytest.fixture
def fine(fake_sampler: object, ct_path: Path, tmp_path: Path) -> sitk.Image:
    """`ct` at half of its slice spacing, from the file that was written."""
    pmtool.resample(ct_path, 1.25, tmp_path / "fine.nrrd")
    return sitk.ReadImage(str(tmp_path / "fine.nrrd"))


@pytest.fixture
def mask(fine: sitk.Image) -> sitk.Image:
    """The box, on the grid of the fine volume."""
    image = sitk.Image(fine.GetSize(), sitk.sitkUInt8)
    image.CopyInformation(fine)
    image[X, Y, Z] = 1
    return image


def test_voxels_at_the_wanted_spacing_are_not_resampled(fine: sitk.Image, mask: sitk.Image) -> None:
    wanted = {"resampledPixelSpacing": [0.7, 0.7, 1.25], "padDistance": 0}
    image, region = operations.resampleImage(fine, mask, **wanted)
    expected = fine[X, Y, Z]
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(expected))
    assert image.GetOrigin() == pytest.approx(expected.GetOrigin())
    assert image.GetSpacing() == expected.GetSpacing()
    assert sitk.GetArrayFromImage(region).all()


def test_features_are_those_of_the_generated_voxels(
    ct: sitk.Image, fine: sitk.Image, mask: sitk.Image
) -> None:
    """With the same spacing; the coarse scan is interpolated by pyradiomics and gives others."""
    spacing = list(fine.GetSpacing())
    extractor = extraction.RadiomicsFeatureExtractor(resampledPixelSpacing=spacing)
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(firstorder=["Minimum", "Maximum", "Mean", "Variance"])
    voxels = sitk.GetArrayFromImage(fine[X, Y, Z]).astype(np.float64)
    expected = [voxels.min(), voxels.max(), voxels.mean(), voxels.var()]

    def features(image: sitk.Image) -> list[float]:
        found = extractor.execute(image, mask)
        names = ("Minimum", "Maximum", "Mean", "Variance")
        return [float(found[f"original_firstorder_{name}"]) for name in names]

    assert features(fine) == pytest.approx(expected, rel=1e-12)
    assert features(ct) != pytest.approx(expected, rel=1e-3)
