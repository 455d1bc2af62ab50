"""Statistics of a volume's slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.geometry.grid import Grid
from pmtool.images.volume import Volume

_TO_DEVIATION = 1.4826 / 1.5**0.5
"""Standard deviation of white noise over the median absolute difference from two neighbours."""


def statistics(volume: Volume, grid: Grid, image: sitk.Image) -> dict[str, Any]:
    """Mean, deviation and noise of every slice and of every kind of slice, HU.

    Noise is a robust estimate: the median absolute difference of a pixel to the mean of its two
    neighbours in a row, scaled to the standard deviation of white noise.
    """
    slices = Volume(image, volume.axis, volume.name).slices
    kinds, moments = [output.kind for output in grid.slices], list(map(_moments, slices))
    rows = [
        {"index": index, "kind": kind, **values}
        for index, (kind, values) in enumerate(zip(kinds, moments, strict=True))
    ]
    by_kind = {
        kind: {
            name: _mean([x[name] for x, its in zip(moments, kinds, strict=True) if its == kind])
            for name in ("mean", "deviation", "noise")
        }
        for kind in grid.counts()
    }
    return {"unit": "HU", "by_kind": by_kind, "slices": rows}


def _moments(values: NDArray[Any]) -> dict[str, float | None]:
    values = values.astype(np.float64)
    detail = values[:, 1:-1] - (values[:, :-2] + values[:, 2:]) / 2
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "noise": float(np.median(np.abs(detail)) * _TO_DEVIATION) if detail.size else None,
    }


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(np.array(values, np.float64)))
