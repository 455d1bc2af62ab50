"""Weights of neighbouring slices for a position between them.

Positions and nodes are in units of the interpolated stack: node 0 is its first slice.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from pmtool.arrays import Float64s
from pmtool.choices import Interpolator

_REACH = 15
"""Slices on either side beyond which a spline's weights are below 1e-8."""


class Weight(NamedTuple):
    """The share of one node in an interpolated slice."""

    node: int
    share: float


def weights(position: float, nodes: int, interpolator: Interpolator) -> tuple[Weight, ...]:
    """The nodes that make up the slice at a position, with shares that add up to one.

    Parameters
    ----------
    position
        Position in [0, ``nodes`` - 1].
    nodes
        Number of slices of the stack.
    interpolator
        ``nearest``, ``linear``, or ``bspline`` for a cubic B-spline with mirrored boundaries, as in
        ITK.
    """
    if interpolator == "nearest":
        return (Weight(math.floor(position + 0.5), 1.0),)
    if interpolator == "linear":
        return _linear(position, nodes)
    return _bspline(position, nodes)


def _linear(position: float, nodes: int) -> tuple[Weight, ...]:
    lower = min(int(position), nodes - 2)
    share = position - lower
    return Weight(lower, 1 - share), Weight(lower + 1, share)


def _bspline(position: float, nodes: int) -> tuple[Weight, ...]:
    count = min(nodes, 2 * _REACH)
    first = min(max(math.floor(position) - _REACH + 1, 0), nodes - count)
    (shares,) = itk_weights(sitk.sitkBSpline, count, round(position - first, 9))
    return tuple(Weight(first + int(i), float(shares[i])) for i in np.flatnonzero(shares))


@lru_cache
def itk_weights(interpolator: int, count: int, first: float, number: int = 1) -> Float64s:
    """Weights of ``count`` slices in ``number`` slices at ``first``, ``first`` + 1, ...

    Because interpolation is linear in the slices, ITK's weights follow from its results for stacks
    in which a single slice is not zero: the columns of an identity matrix.

    Returns
    -------
    array
        Weights ``(number, count)``.
    """
    stacks = sitk.GetImageFromArray(np.eye(count))
    resampled = sitk.Resample(
        stacks, (count, number), sitk.Transform(), interpolator, (0, first), (1, 1)
    )
    weights = sitk.GetArrayFromImage(resampled)
    weights[np.abs(weights) < 1e-9] = 0
    return np.asarray(weights)
