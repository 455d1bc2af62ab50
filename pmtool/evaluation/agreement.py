"""How well a method's features agree with the truth's: NRMSE and Lin's concordance."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float64s

REPRODUCIBLE = 0.85
"""Lowest concordance at which a feature counts as reproducible, in this paper and in others."""


def concordance(result: Float64s, reference: Float64s) -> Float64s:
    """Lin's concordance correlation coefficient of every feature over the slices.

    2 rho sx sy / (sx^2 + sy^2 + (mx - my)^2), with population variances [1]_. The paper prints
    only the denominator. Slices where either value is NaN are left out.

    Parameters
    ----------
    result, reference
        Values of the features, ``(slices, features)``.

    Returns
    -------
    array
        Concordances ``(features,)``; NaN where the reference is constant or fewer than two slices
        are left.

    References
    ----------
    .. [1] Lin 1989, doi:10.2307/2532051.
    """
    finite = np.isfinite(result) & np.isfinite(reference)
    x, y = (np.where(finite, values, np.nan) for values in (result, reference))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # for features without any value
        mx, my = np.nanmean(x, axis=0), np.nanmean(y, axis=0)
        covariance = np.nanmean((x - mx) * (y - my), axis=0)
        variances = np.nanvar(x, axis=0) + np.nanvar(y, axis=0)
        values = 2 * covariance / (variances + (mx - my) ** 2)
    values[is_constant(y)] = np.nan
    return np.asarray(values)


def is_constant(values: Float64s) -> NDArray[np.bool_]:
    """Mask ``(features,)`` of the features that do not vary and thus have no concordance.

    ``values`` is ``(slices, features)``. Rounding errors do not count as variation; a feature with
    a single known value is constant.
    """
    finite = np.isfinite(values)
    low = np.min(values, axis=0, initial=np.inf, where=finite)
    high = np.max(values, axis=0, initial=-np.inf, where=finite)
    size = np.max(np.abs(values), axis=0, initial=0, where=finite)
    return np.asarray(~(high - low > 1e-9 * size))


def scaled_errors(errors: Float64s) -> Float64s:
    """Errors of every feature scaled to [0, 1] over all methods and slices: the paper's NRMSE.

    (e - min e) / (max e - min e), with e = abs(result - reference) for table 2. The values depend
    on which methods are compared.

    Parameters
    ----------
    errors
        Errors ``(methods, slices, features)``, NaN where unknown.

    Returns
    -------
    array
        Scaled errors, of the same shape; 0 for features with equal errors everywhere.
    """
    finite = np.isfinite(errors)
    low = np.min(errors, axis=(0, 1), initial=np.inf, where=finite)
    high = np.max(errors, axis=(0, 1), initial=-np.inf, where=finite)
    width = np.where(high > low, high - low, 1.0)
    return np.asarray((np.where(finite, errors, np.nan) - np.where(high >= low, low, 0.0)) / width)
