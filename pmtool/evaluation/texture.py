"""Texture of a region by pyradiomics: 56 features of GLCM, GLRLM and GLSZM."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.errors import UsageError

BIN_WIDTH = 25.0
"""Width of a grey level in HU: pyradiomics' default, because the paper gives none."""
MISSING = (
    "pyradiomics is not installed: pip install numpy 'setuptools<81' wheel versioneer && "
    "pip install --no-cache-dir --no-build-isolation pyradiomics==3.0.1"
)
"""The first command installs its build requirements, which the package does not declare."""


def is_available() -> bool:
    """Whether pyradiomics is installed."""
    return find_spec("radiomics") is not None


def slice_texture(
    values: NDArray[np.int16], region: NDArray[np.bool_], spacing: tuple[float, float]
) -> dict[str, float]:
    """Texture of a region of a slice, by feature; empty if the region is empty.

    Parameters
    ----------
    values
        Slice ``(H, W)`` in HU.
    region
        Mask ``(H, W)`` of the region.
    spacing
        Spacing of the pixels in mm, rows first.
    """
    if not region.any():
        return {}
    image, mask = (sitk.GetImageFromArray(x[None]) for x in (values, region.astype(np.uint8)))
    for volume in (image, mask):
        volume.SetSpacing((spacing[1], spacing[0], 1.0))
    return texture_features(image, mask)


def texture_features(
    image: sitk.Image, mask: sitk.Image, bin_width: float = BIN_WIDTH
) -> dict[str, float]:
    """All GLCM, GLRLM and GLSZM features of pyradiomics 3.0.1 [1]_, with its default settings.

    The GLCM is symmetrical, with distance 1; grey levels have a fixed width. GLCM and GLRLM
    features are averaged over the directions of the image: 4 in a single slice, 13 in a volume
    (IBSI's aggregation ITBB).

    Parameters
    ----------
    image, mask
        Image in HU and mask on the same grid; the mask is 1 in the region.
    bin_width
        Width of a grey level in HU.

    Returns
    -------
    dict
        Values by names like ``glcm_Contrast``; NaN where pyradiomics gives no value.

    Raises
    ------
    UsageError
        If pyradiomics is not installed.

    References
    ----------
    .. [1] van Griethuysen et al. 2017, doi:10.1158/0008-5472.CAN-17-0339.
    """
    features = {}
    for family, matrix in _families().items():
        extractor = matrix(image, mask, binWidth=bin_width)
        extractor.enableAllFeatures()
        for name, value in sorted(extractor.execute().items()):
            features[f"{family}_{name}"] = float(value)
    return features


@cache
def _families() -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import radiomics
            from radiomics import glcm, glrlm, glszm
    except ImportError as error:
        raise UsageError(MISSING) from error
    radiomics.setVerbosity(50)
    return {
        "glcm": glcm.RadiomicsGLCM,
        "glrlm": glrlm.RadiomicsGLRLM,
        "glszm": glszm.RadiomicsGLSZM,
    }
