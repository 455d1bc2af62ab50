"""Storing HU as the pixels of a DICOM image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.valuerep import DSfloat

from pmtool.dicom.pixels import PADDING, high_padding, rescale


def set_pixels(dataset: Dataset, values: NDArray[Any], header: Dataset) -> None:
    """Store a slice, in place, in the same way as its source is stored.

    Parameters
    ----------
    dataset
        Data set that receives the attributes of the pixels.
    values
        HU, ``(H, W)``. They are stored with the source's slope and intercept, rounded and limited
        to 16 bits; values of a slice of the source are stored exactly.
    header
        Header of the source.
    """
    slope, intercept = rescale(header) or (1.0, 0.0)
    dataset.setdefault("RescaleSlope", DSfloat(slope, auto_format=True))
    dataset.setdefault("RescaleIntercept", DSfloat(intercept, auto_format=True))
    signed = dataset.PixelRepresentation = int(header.PixelRepresentation)
    stored = np.rint((values.astype(np.float64) - intercept) / slope)
    if padding := high_padding(header):
        mirrored = PADDING + padding[0] - values.astype(np.float64)
        outside = (mirrored >= padding[0]) & (mirrored <= padding[1])
        stored[outside] = mirrored[outside]
    bits = min(max(int(header.BitsStored), 12), 16)
    low, high = _range(bits, signed)
    if stored.min() < low or stored.max() > high:
        bits = 16
        stored = np.clip(stored, *_range(bits, signed))
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.setdefault("PhotometricInterpretation", "MONOCHROME2")
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    dataset["PixelData"].VR = "OW"


def _range(bits: int, signed: int) -> tuple[int, int]:
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
