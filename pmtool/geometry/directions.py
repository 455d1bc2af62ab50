"""The axes of a volume, which must be at right angles."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from pmtool.errors import GeometryError

MAX_SKEW = 0.02
"""Largest cosine between two axes that is repaired; beyond it, the volume counts as sheared."""
_EXACT = 1e-4


def check_angles(direction: NDArray[np.float64], name: str) -> float:
    """The largest cosine between two axes; parameters and errors are those of `orthonormal`."""
    skew = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if not skew <= MAX_SKEW:
        raise GeometryError(
            f"the axes of {name} are not at right angles (cosine {skew:.3g}), as with a tilted "
            "gantry; resample it to a regular stack first"
        )
    return skew


def orthonormal(direction: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Direction cosines, repaired with a warning if they are slightly off.

    Parameters
    ----------
    direction
        ``(3, 3)``, with a unit vector in every column.
    name
        Name of the image, for messages.

    Raises
    ------
    GeometryError
        If two axes are further than `MAX_SKEW` from a right angle, as with a tilted gantry.
    """
    if check_angles(direction, name) <= _EXACT:
        return direction
    warnings.warn(f"slightly skewed direction cosines of {name} were repaired", stacklevel=2)
    left, _, right = np.linalg.svd(direction)
    return np.asarray(left @ right)
