"""Random changes of a triplet of slices, so that one model serves many scanners and kernels.

All three slices are changed alike, except that noise differs from slice to slice, as a scanner's
does. The network can thus read sharpness and noise level only from the two neighbours.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, NonNegativeFloat
from pydantic.dataclasses import dataclass
from scipy import fft, ndimage

from pmtool.arrays import Float32s
from pmtool.errors import UsageError

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Configuration of every section of the settings."""
Probability = Annotated[float, Field(ge=0, le=1)]
_Factor = Annotated[float, Field(ge=1)]
Reals = NDArray[np.float64]
FREQUENCIES = np.linspace(0, 0.75, 7)
"""Frequencies of a random gain, in cycles per pixel; the highest in plane is 0.71."""
NOISE_DRIFT = -0.3
"""Mean step of the logarithm of a noise's amplitudes from one of the frequencies to the next."""
CROP_MARGIN = 8
"""Number of pixels on every side of a crop that filters and zoom may use."""


@dataclass(frozen=True, config=STRICT)
class Augmentation:
    """Probabilities of the changes, and their limits.

    Attributes
    ----------
    zoom
        Zoom in plane, by a factor between 1 / ``zoom_range`` and ``zoom_range``, with cubic
        interpolation.
    kernel
        Another reconstruction kernel: a multiple in ``kernel_range`` of the image's difference from
        its Gaussian blur, of 0.5 to 1.2 pixels, is added. Negative multiples act like a smoother
        kernel, positive ones like a sharper one.
    spectrum
        Another texture: the amplitudes of all frequencies in plane are multiplied by a random gain,
        see `_random_gain`, with a step of up to ``spectrum_step``.
    noise
        Gaussian noise of up to ``noise_hu`` (standard deviation), with a spectrum that is such a
        gain, on average falling.
    contrast
        Higher contrast, as from contrast agents and metal: for values above a random limit of 0 to
        200 HU, the distance from it is multiplied by a factor of up to ``contrast_range``.
    """

    zoom: Probability = 0.25
    kernel: Probability = 0.25
    spectrum: Probability = 0.25
    noise: Probability = 0.15
    contrast: Probability = 0.1
    zoom_range: _Factor = 1.3
    kernel_range: tuple[float, float] = (-0.8, 2.0)
    spectrum_step: Annotated[float, Field(ge=0, le=2)] = 0.7
    noise_hu: NonNegativeFloat = 80.0
    contrast_range: _Factor = 4.0

    def __post_init__(self) -> None:
        low, high = self.kernel_range
        if low > high:
            raise UsageError(f"kernel_range falls from {low} to {high}: give the lower end first")

    def __call__(self, slices: Float32s, size: int, rng: np.random.Generator) -> Float32s:
        """Change slices ``(3, H, W)`` in HU and cut out the crop.

        The slices are `CROP_MARGIN` pixels larger than the crop on all sides.
        """
        if rng.random() < self.zoom:
            slices = _zoomed(slices, self.zoom_range ** rng.uniform(-1, 1))
        if rng.random() < self.kernel:
            blurred = _blurred(slices, rng.uniform(0.5, 1.2))
            slices = slices + rng.uniform(*self.kernel_range) * (slices - blurred)
        if rng.random() < self.spectrum:
            slices = filtered(slices, self._random_gain(rng))
        if rng.random() < self.noise:
            white = rng.standard_normal(slices.shape, dtype=np.float32)
            noise = filtered(white, self._random_gain(rng, NOISE_DRIFT))
            slices = slices + rng.uniform(0, self.noise_hu) / noise.std() * noise
        if rng.random() < self.contrast:
            limit, factor = rng.uniform(0, 200), rng.uniform(1, self.contrast_range)
            slices = slices + (factor - 1) * np.maximum(slices - limit, 0)
        return slices[:, CROP_MARGIN : CROP_MARGIN + size, CROP_MARGIN : CROP_MARGIN + size]

    def _random_gain(self, rng: np.random.Generator, drift: float = 0.0) -> Reals:
        """Draw the logarithms of a gain at `FREQUENCIES`: a random walk from 0, with a drift."""
        step = rng.uniform(0, self.spectrum_step)
        steps = drift + step * rng.standard_normal(len(FREQUENCIES) - 1)
        return np.concatenate([[0.0], np.cumsum(steps)])


def filtered(slices: Float32s, log_gain: Reals) -> Float32s:
    """Multiply the amplitudes of all frequencies in plane by a gain.

    Parameters
    ----------
    slices
        Slices ``(3, H, W)``; beyond their borders, they are mirrored.
    log_gain
        Natural logarithms of the gain at `FREQUENCIES`, linear between them.
    """
    rows, columns = (np.arange(size) / (2 * size) for size in slices.shape[1:])
    gain = np.exp(np.interp(np.hypot(rows[:, None], columns), FREQUENCIES, log_gain))
    spectrum = fft.dctn(slices, axes=(1, 2), norm="ortho")
    return np.asarray(fft.idctn(spectrum * gain, axes=(1, 2), norm="ortho"), np.float32)


def _blurred(slices: Float32s, sigma: float) -> Float32s:
    blurred: Float32s = ndimage.gaussian_filter(slices, (0, sigma, sigma), mode="nearest")
    return blurred


def _zoomed(slices: Float32s, factor: float) -> Float32s:
    """Zoom about the middle; beyond the margin, the slices are mirrored."""
    middle = (slices.shape[1] - 1) / 2
    step, offset = 1 / factor, middle - middle / factor
    planes = [
        ndimage.affine_transform(plane, (step, step), offset, order=3, mode="mirror")
        for plane in slices
    ]
    return np.stack(planes)
