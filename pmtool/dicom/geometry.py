"""Positions of images, and whether they form a stack.

Only positions and orientations are used, never names, numbers or thickness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydicom import Dataset

from pmtool.arrays import Float64s
from pmtool.errors import GeometryError
from pmtool.geometry.directions import orthonormal
from pmtool.geometry.nodes import EVEN
from pmtool.system.tables import listed
from pmtool.system.units import counted

SAME_PLACE = 0.05
"""Distance in pixels within which images count as being at the same position."""
STRAIGHT = 0.5
"""Distance in pixels by which slices may be shifted in their plane."""
ALIKE = 1e-3
"""Largest difference of direction cosines, and largest relative one of pixel spacings."""


class Planes(NamedTuple):
    """Positions and orientation of images.

    Attributes
    ----------
    places
        Centres of the first pixels, ``(images, 3)``, mm.
    direction
        Unit vectors of x, y and the normal in columns, ``(3, 3)``.
    pixel
        Spacing of columns and of rows, mm.
    """

    places: Float64s
    direction: Float64s
    pixel: tuple[float, float]

    @property
    def depths(self) -> Float64s:
        """Positions along the normal, ``(images,)``, mm."""
        return self.places @ self.direction[:, 2]


def image_planes(headers: Sequence[Dataset], name: str) -> Planes:
    """The planes of parallel images; raises `GeometryError` if they are not parallel."""
    try:
        places = np.array([h.ImagePositionPatient for h in headers], dtype=float)
        axes = np.array([h.ImageOrientationPatient for h in headers], dtype=float)
        spacing = np.array([h.PixelSpacing for h in headers], dtype=float)
        complete = places.shape[1:] == (3,) and axes.shape[1:] == (6,) and spacing.shape[1:] == (2,)
    except (AttributeError, TypeError, ValueError):
        complete = False
    finite = complete and all(np.isfinite(a).all() for a in (places, axes, spacing))
    if not finite or spacing.min() <= 0:
        raise GeometryError(
            f"{name} does not say for every slice where it lies (ImagePositionPatient, "
            "ImageOrientationPatient, PixelSpacing); export it again"
        )
    if np.abs(axes - axes[0]).max() > ALIKE:
        raise GeometryError(f"the slices of {name} are not parallel; give each stack on its own")
    if np.abs(spacing - spacing[0]).max() > ALIKE * spacing.min():
        raise GeometryError(
            f"the slices of {name} have pixels of {_range(spacing)} mm; give each size on its own"
        )
    row, column = axes[0, :3], axes[0, 3:]
    direction = orthonormal(np.stack([row, column, np.cross(row, column)], axis=1), name)
    direction /= np.linalg.norm(direction, axis=0)  # headers round to few digits
    rows, columns = spacing[0]
    return Planes(places, direction, (float(columns), float(rows)))


def check_straight(planes: Planes, name: str) -> None:
    """Raise `GeometryError` unless slices lie straight above each other, or at the same place."""
    order = np.argsort(planes.depths, kind="stable")
    offsets = planes.places[order] - planes.places[order[0]]
    depths = offsets @ planes.direction[:, 2]
    sideways = offsets - np.outer(depths, planes.direction[:, 2])
    limit = STRAIGHT * min(planes.pixel)
    shift = np.linalg.norm(sideways, axis=1)
    if shift.max() <= limit:
        return
    slant = sideways[-1] / max(depths[-1], limit)
    if np.linalg.norm(sideways - np.outer(depths, slant), axis=1).max() <= limit:
        angle = np.degrees(np.arctan(np.linalg.norm(slant)))
        raise GeometryError(
            f"{name} was acquired with a tilted gantry ({angle:.1f} degrees); have it "
            "reconstructed or resampled without the tilt first"
        )
    raise GeometryError(
        f"the slices of {name} are shifted against each other by up to {shift.max():.3g} mm in "
        "their plane; give each stack on its own"
    )


def is_even(depths: Float64s) -> bool:
    """Whether slices at increasing depths, mm, form an even stack."""
    even = np.linspace(depths[0], depths[-1], len(depths))
    distance = (depths[-1] - depths[0]) / (len(depths) - 1)
    return bool(np.abs(depths - even).max() <= EVEN * distance)


def unevenness(depths: Float64s, name: str) -> str:
    """A clause with the gaps between slices at uneven depths, mm."""
    distances = np.diff(depths)
    usual = float(np.median(distances))
    off = np.abs(distances - usual)
    odd = np.flatnonzero(off > min(EVEN * usual, off.max() / 2))
    gaps = [
        f"{distances[i]:.4g} mm ({distances[i] / usual:.3g}x) after {depths[i]:.4g} mm" for i in odd
    ]
    return (
        f"{name} is unevenly spaced: its slices are {usual:.4g} mm apart but for "
        f"{counted(len(gaps), 'gap')}: {listed(gaps)}"
    )


def _range(spacing: Float64s) -> str:
    low, high = spacing.min(axis=0), spacing.max(axis=0)
    return f"{low[0]:.4g} x {low[1]:.4g} to {high[0]:.4g} x {high[1]:.4g}"
