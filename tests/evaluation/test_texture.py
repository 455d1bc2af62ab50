"""Texture features: the IBSI's digital phantom, and pyradiomics called by hand on a real slice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.errors import UsageError
from pmtool.evaluation import texture
from pmtool.evaluation.lungs import air_in_lungs, lung_region
from pmtool.evaluation.texture import slice_texture, texture_features

PHANTOM = np.array(
    [
        [[4, 4, 6, 4, 1], [4, 4, 6, 1, 1], [1, 1, 6, 1, 1], [1, 1, 6, 1, 1]],
        [[4, 1, 6, 4, 1], [1, 1, 3, 1, 1], [1, 1, 9, 1, 1], [1, 1, 1, 1, 1]],
        [[1, 4, 6, 1, 1], [1, 1, 6, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 4, 4, 1, 1], [1, 4, 4, 1, 1], [1, 4, 4, 1, 1]],
    ],
    np.int16,
)
"""The IBSI's digital phantom, slices, rows and columns."""
OUTSIDE = [(1, 1, 0), (1, 2, 2), (3, 2, 3), (3, 2, 4), (3, 3, 3), (3, 3, 4)]

# IBSI reference values of the phantom, of which the IBSI asks all digits that it gives: GLCM and
# GLRLM in 3-D, averaged over directions (ITBB), GLSZM in 3-D (KOBO). doi:10.1148/radiol.2020191145
IBSI = {
    "glcm_MaximumProbability": "0.503",
    "glcm_JointAverage": "2.14",
    "glcm_SumSquares": "3.1",
    "glcm_JointEntropy": "2.4",
    "glcm_DifferenceAverage": "1.43",
    "glcm_DifferenceVariance": "3.06",
    "glcm_DifferenceEntropy": "1.56",
    "glcm_SumAverage": "4.29",
    "glcm_SumEntropy": "1.92",
    "glcm_JointEnergy": "0.303",
    "glcm_Contrast": "5.32",
    "glcm_Id": "0.677",
    "glcm_Idn": "0.851",
    "glcm_Idm": "0.618",
    "glcm_Idmn": "0.898",
    "glcm_InverseVariance": "0.0604",
    "glcm_Correlation": "0.157",
    "glcm_Autocorrelation": "5.06",
    "glcm_ClusterTendency": "7.07",
    "glcm_ClusterShade": "16.6",
    "glcm_ClusterProminence": "145",
    "glcm_Imc1": "-0.157",
    "glcm_Imc2": "0.52",
    "glrlm_ShortRunEmphasis": "0.705",
    "glrlm_LongRunEmphasis": "3.06",
    "glrlm_LowGrayLevelRunEmphasis": "0.603",
    "glrlm_HighGrayLevelRunEmphasis": "9.7",
    "glrlm_ShortRunLowGrayLevelEmphasis": "0.352",
    "glrlm_ShortRunHighGrayLevelEmphasis": "8.54",
    "glrlm_LongRunLowGrayLevelEmphasis": "2.39",
    "glrlm_LongRunHighGrayLevelEmphasis": "17.6",
    "glrlm_GrayLevelNonUniformity": "21.8",
    "glrlm_GrayLevelNonUniformityNormalized": "0.43",
    "glrlm_RunLengthNonUniformity": "26.9",
    "glrlm_RunLengthNonUniformityNormalized": "0.513",
    "glrlm_RunPercentage": "0.68",
    "glrlm_GrayLevelVariance": "3.46",
    "glrlm_RunVariance": "0.574",
    "glrlm_RunEntropy": "2.43",
    "glszm_SmallAreaEmphasis": "0.255",
    "glszm_LargeAreaEmphasis": "550",
    "glszm_LowGrayLevelZoneEmphasis": "0.253",
    "glszm_HighGrayLevelZoneEmphasis": "15.6",
    "glszm_SmallAreaLowGrayLevelEmphasis": "0.0256",
    "glszm_SmallAreaHighGrayLevelEmphasis": "2.76",
    "glszm_LargeAreaLowGrayLevelEmphasis": "503",
    "glszm_LargeAreaHighGrayLevelEmphasis": "1490",
    "glszm_GrayLevelNonUniformity": "1.4",
    "glszm_GrayLevelNonUniformityNormalized": "0.28",
    "glszm_SizeZoneNonUniformity": "1",
    "glszm_SizeZoneNonUniformityNormalized": "0.2",
    "glszm_ZonePercentage": "0.0676",
    "glszm_GrayLevelVariance": "2.64",
    "glszm_ZoneVariance": "331",
    "glszm_ZoneEntropy": "2.32",
}


def test_values_of_the_ibsi() -> None:
    pytest.importorskip("radiomics")
    mask = np.ones(PHANTOM.shape, np.uint8)
    mask[tuple(np.transpose(OUTSIDE))] = 0
    image, region = (sitk.GetImageFromArray(values) for values in (PHANTOM, mask))
    found = texture_features(image, region, bin_width=1)
    assert found.keys() - IBSI.keys() == {"glcm_MCC"}  # has no reference value
    for name, expected in IBSI.items():
        assert float(f"{found[name]:.3g}") == float(expected), name


def test_equal_to_pyradiomics_called_by_hand(shared: Callable[[str], Path]) -> None:
    extractor = pytest.importorskip("radiomics.featureextractor")
    scan = sitk.ReadImage(str(shared("scans/LIDC-0001.nrrd")))[:, :, 70:73]
    values, spacing = sitk.GetArrayFromImage(scan), scan.GetSpacing()[1::-1]
    region = lung_region(air_in_lungs(values, spacing)[1], spacing)
    assert 0.1 < region.mean() < 0.5
    by_hand = extractor.RadiomicsFeatureExtractor()
    by_hand.disableAllFeatures()
    for family in ("glcm", "glrlm", "glszm"):
        by_hand.enableFeatureClassByName(family)
    mask = sitk.GetImageFromArray(region[None].astype(np.uint8))
    mask.CopyInformation(scan[:, :, 1:2])
    expected = by_hand.execute(scan[:, :, 1:2], mask)
    found = slice_texture(values[1], region, spacing)
    assert len(found) == 56
    for name, value in found.items():
        assert value == pytest.approx(float(expected[f"original_{name}"]), rel=1e-9), name


def test_empty_region() -> None:
    assert slice_texture(np.zeros((8, 8), np.int16), np.zeros((8, 8), np.bool_), (1, 1)) == {}


def test_without_pyradiomics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "radiomics", None)
    texture._families.cache_clear()
    with pytest.raises(UsageError, match=r"pip install .* pyradiomics==3\.0\.1"):
        slice_texture(np.zeros((8, 8), np.int16), np.ones((8, 8), np.bool_), (1, 1))
    texture._families.cache_clear()
