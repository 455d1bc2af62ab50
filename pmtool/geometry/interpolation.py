"""Weights of neighbouring slices for a position between them.

Positions and nodes are in units of the interpolated stack: node 0 is its first slice.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pmtool.choices import Interpolator

_POLE = math.sqrt(3) - 2
"""Pole of the recursive filter that turns samples into cubic B-spline coefficients."""
_REACH = 14
"""Slices on either side beyond which weights are below 1e-8."""


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
    centre = math.floor(position)
    shares: dict[int, float] = {}
    for node in range(centre - _REACH, centre + _REACH + 2):
        inside = _mirrored(node, nodes)
        shares[inside] = shares.get(inside, 0.0) + _cardinal_spline(position - node)
    total = sum(shares.values())
    return tuple(Weight(node, share / total) for node, share in sorted(shares.items()))


def _mirrored(node: int, nodes: int) -> int:
    period = 2 * (nodes - 1)
    return min(node % period, -node % period)


def _cardinal_spline(x: float) -> float:
    """The cubic spline that is 1 at 0 and 0 at every other integer (Unser 1999, equation 19)."""
    near = math.floor(x)
    return math.sqrt(3) * sum(_POLE ** abs(k) * _cubic(x - k) for k in range(near - 1, near + 3))


def _cubic(x: float) -> float:
    """The cubic B-spline."""
    x = abs(x)
    if x < 1:
        return 2 / 3 - x * x + x**3 / 2
    return max(2 - x, 0.0) ** 3 / 6
