"""The lungs of a scan: thresholds and morphology, as in the paper's section 2.5.2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLD = -320
"""HU, the paper's; lung and air lie below it."""
SMALLEST_MM2 = 1000.0
"""Cross-section of lungs; gas in the bowel and the trachea above the lungs have less."""
SMALLEST_SHARE = 0.1
"""Share of the largest piece's volume that a second lung has at least."""
CLOSING_MM, DILATION_MM = 7.0, 2.0
"""Radii: vessels within the lungs belong to the region, and so does their border."""

Region = NDArray[np.bool_]


def air_in_lungs(slices: NDArray[Any], spacing: tuple[float, float]) -> Region:
    """Mask of the air in the lungs of a whole scan.

    Air is what lies below -320 HU; what of it touches the edge of its slice is outside of the
    body. Of its pieces, opened slice by slice, the largest is lung, and so are others of a tenth
    of its volume. The paper does not name these numbers.

    Parameters
    ----------
    slices
        ``(slices, H, W)`` HU.
    spacing
        Spacing of the pixels in mm, rows first.

    Returns
    -------
    array
        Mask of the same shape; nowhere true if there is no lung.
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
    """The lungs in one slice, ``(H, W)``: their air, closed over vessels and dilated.

    Nowhere true where there are less than 10 cm^2 of air.
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
