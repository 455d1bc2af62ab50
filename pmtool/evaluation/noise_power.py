"""Noise in a homogeneous piece of a slice: its standard deviation and its power spectrum.

A known failure of slice interpolation is that every second slice is smoother or noisier than its
neighbours; the ratio of their noise shows it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIZE = 32
"""Number of rows and of columns of the piece."""
SOFT_TISSUE = (-150, 200)
"""Range of the smoothed piece's values in HU."""
MOST_STRUCTURE = 15.0
"""Largest standard deviation of the smoothed piece, in HU, at which it counts as homogeneous."""
SMOOTHING = 3.0
"""Standard deviation, in pixels, of the Gaussian filter that removes noise but keeps structure."""
BINS = 16
"""Number of bins of the spectrum, from 0 to 0.5 cycles per pixel."""

_STEP = 4


class Place(NamedTuple):
    """First row and column of a homogeneous piece."""

    top: int
    left: int


def homogeneous_place(slices: NDArray[np.int16]) -> Place | None:
    """Find the most homogeneous piece of soft tissue; None if there is none.

    It is the piece in which the smoothed mean of the slices varies least. It is thus chosen by
    structure rather than by noise: choosing a piece for its low noise would underestimate noise.

    Parameters
    ----------
    slices
        Neighbouring slices ``(slices, H, W)`` in HU.
    """
    from scipy.ndimage import gaussian_filter

    mean = gaussian_filter(slices.mean(axis=0, dtype=np.float64), SMOOTHING)
    if min(mean.shape) < SIZE:
        return None
    pieces = np.lib.stride_tricks.sliding_window_view(mean, (SIZE, SIZE))[::_STEP, ::_STEP]
    low, high = SOFT_TISSUE
    soft = (pieces.min(axis=(2, 3)) > low) & (pieces.max(axis=(2, 3)) < high)
    structure = np.full(soft.shape, np.inf)
    structure[soft] = pieces[soft].std(axis=(1, 2))
    row, column = np.unravel_index(structure.argmin(), structure.shape)
    if structure[row, column] > MOST_STRUCTURE:
        return None
    return Place(int(row) * _STEP, int(column) * _STEP)


def noise(values: NDArray[np.int16], place: Place) -> float:
    """Standard deviation, in HU, of the piece at a place about the plane that fits it best."""
    return float(_detrended(values, place).std())


def noise_power(values: NDArray[np.int16], place: Place) -> list[float]:
    """Noise power spectrum of the piece at a place, averaged over directions.

    Parameters
    ----------
    values
        Slice ``(H, W)`` in HU.
    place
        Place of the piece.

    Returns
    -------
    list
        Spectrum in HU^2 pixel^2, in `BINS` equal bins from 0 to 0.5 cycles per pixel:
        abs(DFT)^2 / number of pixels [1]_, without the constant and the trend. The integral of the
        two-dimensional spectrum over both frequencies is the variance.

    References
    ----------
    .. [1] ICRU Report 87 (2012), section 4.5.3; the trend is a plane.
    """
    spectrum = np.abs(np.fft.fft2(_detrended(values, place))) ** 2 / SIZE**2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    bins = np.minimum((frequency * 2 * BINS).astype(int), BINS)
    power = np.bincount(bins.ravel(), spectrum.ravel()) / np.bincount(bins.ravel())
    return [float(x) for x in power[:BINS]]


def _detrended(values: NDArray[np.int16], place: Place) -> NDArray[np.float64]:
    top, left = place
    piece = values[top : top + SIZE, left : left + SIZE].astype(np.float64)
    ramp = np.arange(SIZE) - (SIZE - 1) / 2
    scale = SIZE * np.square(ramp).sum()
    down, right = (ramp @ piece.sum(axis=1)) / scale, (ramp @ piece.sum(axis=0)) / scale
    return np.asarray(piece - piece.mean() - down * ramp[:, None] - right * ramp)
