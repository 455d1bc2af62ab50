"""Errors of a slice against its truth, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Slice
from pmtool.images.display import SCORING_WINDOW

OUTSIDE = -900
"""HU of the truth below which a pixel counts as air around the patient."""
SIMILARITY_WINDOW = 11
_RANGE = SCORING_WINDOW[1] - SCORING_WINDOW[0]


def mean_absolute_error(result: Slice, reference: Slice) -> float:
    """Mean of abs(result - reference), in HU, over pixels where the reference is above -900 HU.

    Both are clipped to `SCORING_WINDOW` first. Air is left out, so that the result does not depend
    on how much of it surrounds the patient; NaN if there is nothing but air.
    """
    inside = reference > OUTSIDE
    if not inside.any():
        return math.nan
    return float(np.abs(_clipped(result)[inside] - _clipped(reference)[inside]).mean())


def peak_signal_to_noise(result: Slice, reference: Slice) -> float:
    """PSNR in dB, 10 log10(range^2 / mean squared error), of the slice clipped to `SCORING_WINDOW`.

    The range is the window's. The result is infinite for equal slices.
    """
    error = float(np.mean(np.square(_clipped(result) - _clipped(reference))))
    return 10 * math.log10(_RANGE**2 / error) if error else math.inf


def structural_similarity(result: Slice, reference: Slice) -> float:
    """SSIM of the whole slice, clipped to `SCORING_WINDOW`, as first published [1]_.

    It uses Gaussian weights of standard deviation 1.5 and the population covariance; NaN for slices
    that are smaller than their window of 11x11 pixels.

    References
    ----------
    .. [1] Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """
    from skimage.metrics import structural_similarity as similarity

    if min(reference.shape) < SIMILARITY_WINDOW:
        return math.nan
    one, other = _clipped(result), _clipped(reference)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(similarity(one, other, data_range=_RANGE, **settings))


def _clipped(values: Slice) -> NDArray[np.float64]:
    return values.clip(*SCORING_WINDOW).astype(np.float64)
