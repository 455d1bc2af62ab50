"""Shape-based interpolation of labels: Raya and Udupa, IEEE Trans. Med. Imaging 9 (1990), 32-42."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Labels = NDArray[Any]
Mask = NDArray[np.bool_]


def labels_between(
    one: Labels, other: Labels, share: float, spacing: tuple[float, ...]
) -> NDArray[Any]:
    """For every pixel, the label whose border it lies deepest inside, or 0 for none.

    A border lies where the weighted mean of the signed distances to the borders in both slices is
    0. If two labels are equally near, the first slice decides. A label that only one slice has
    tapers off halfway like a cone; where both slices have a label, there is no background between
    them.

    Parameters
    ----------
    one, other
        Labels of the two slices, ``(H, W)``.
    share
        Share of the way from the first slice to the other, in (0, 1).
    spacing
        Spacing of columns and rows, mm.
    """
    labels = np.zeros_like(one)
    nearest = np.full(one.shape, np.inf)
    labelled, inside = (one != 0) | (other != 0), (one != 0) & (other != 0)
    for label in np.union1d(one, other):
        masks = one == label, other == label
        box = _box(masks[0] | masks[1] if label else labelled)
        first, second = _distances(masks[0][box], masks[1][box], spacing)
        distance = (1 - share) * first + share * second
        if not label:
            distance[inside[box]] = np.inf
        wins = distance < nearest[box]
        wins |= (distance == nearest[box]) & masks[0][box]
        labels[box][wins], nearest[box][wins] = label, distance[wins]
    return labels


def _box(mask: Mask) -> tuple[slice, slice]:
    """Bounding box of a mask with a margin of one pixel; empty for an empty mask."""
    places = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (slice(max(x[0] - 1, 0), x[-1] + 2) if x.size else slice(0) for x in places)
    return rows, columns


def _distances(
    one: Mask, other: Mask, spacing: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances to the borders of both masks, mm; for an empty mask, the largest of the other's."""
    first, second = _distance(one, spacing), _distance(other, spacing)
    bordered = [mask.any() and not mask.all() for mask in (one, other)]
    if bordered == [False, True]:
        first = np.full_like(second, -second.max() if one.any() else -second.min())
    if bordered == [True, False]:
        second = np.full_like(first, -first.max() if other.any() else -first.min())
    return first, second


def _distance(mask: Mask, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Distance to the border of a mask, mm, negative inside; the border lies between pixels."""

    def to_nearest(pixels: Mask) -> NDArray[np.float64]:
        image = sitk.GetImageFromArray(pixels.astype(np.uint8))
        image.SetSpacing(spacing)
        distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        return sitk.GetArrayFromImage(distance).astype(np.float64) - min(spacing) / 2

    return np.where(mask, -to_nearest(~mask), to_nearest(mask))
