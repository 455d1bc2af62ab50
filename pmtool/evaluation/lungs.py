"""The lungs of a scan: thresholds and morphology, as in the paper's section 2.5.2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLD = -320
"""The paper's threshold in HU; lung and air lie below it."""
SMALLEST_MM2 = 1000.0
"""Smallest cross-section of lungs in mm^2; bowel gas, and the trachea above the lungs, have smaller
ones."""
SMALLEST_SHARE = 0.1
"""Smallest volume of a second lung, as a share of that of the largest piece."""
CLOSING_MM, DILATION_MM = 7.0, 2.0
"""Radii in mm; they include vessels within the lungs, and the lungs' border, in the region."""

Region = NDArray[np.bool_]


def air_in_lungs(slices: NDArray[Any], spacing: tuple[float, float]) -> Region:
    """Mask of the air in the lungs of a whole scan.

    Air lies below -320 HU; air that touches the edge of its slice is outside the body. The rest is
    morphologically opened slice by slice. Its largest piece is lung, as are pieces of at least a
    tenth of the largest one's volume. The paper gives no numbers for these sizes.

    Parameters
    ----------
    slices
        Slices ``(slices, H, W)`` in HU.
    spacing
        Spacing of the pixels in mm, rows first.

    Returns
    -------
    array
        Mask of the same shape; false everywhere if there is no lung.
    """
    from skimage import measure

    air = np.stack([_inner_air(values) for values in slices])
    labels = measure.label(air)
    volumes = np.bincount(labels.ravel())
    volumes[0] = 0
    lungs = np.asarray((volumes >= SMALLEST_SHARE * max(volumes.max(), 1))[labels])
    area = lungs.sum(axis=(1, 2)).max() * spacing[0] * spacing[1]
    return lungs if area >= SMALLEST_MM2 else np.zeros_like(lungs)


def lung_region(air: Region, spacing: tuple[float, float]) -> Region:
    """Mask ``(H, W)`` of the lungs in one slice: their air, closed over vessels and dilated.

    It is false everywhere if the air covers less than 10 cm^2.
    """
    from skimage import morphology

    if air.sum() * spacing[0] * spacing[1] < SMALLEST_MM2:
        return np.zeros_like(air)
    pixel = float(np.sqrt(spacing[0] * spacing[1]))
    margin = max(round(CLOSING_MM / pixel), 1)
    disk = morphology.disk(margin, decomposition="sequence")
    closed = morphology.closing(np.pad(air, margin), disk)[margin:-margin, margin:-margin]
    return np.asarray(morphology.dilation(closed, morphology.disk(round(DILATION_MM / pixel))))


def _inner_air(values: NDArray[Any]) -> Region:
    from skimage import morphology, segmentation

    air = segmentation.clear_border(values < THRESHOLD)
    return np.asarray(morphology.opening(air, morphology.disk(1)))
