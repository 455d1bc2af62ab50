"""A synthetic chest CT, for tests and for users without a scan at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmtool.errors import UsageError
from pmtool.images.hounsfield import CT_RANGE
from pmtool.phantom.anatomy import RADIUS, Plane, Segment, chest, vessels

if TYPE_CHECKING:
    import SimpleITK

PADDING = -2048
FIELD_MM = 0.7 * 512  # usual height and width of a slice
BLUR = 0.7  # standard deviation of the point spread function, pixels
KERNEL_FREQUENCY = 0.22  # where the noise's power falls off, cycles per pixel
NOISE_EDGE, NOISE_CENTRE = 16.0, 32.0  # standard deviation, HU


def chest_phantom(
    size: int = 512,
    slices: int = 40,
    spacing: tuple[float, float, float] = (0.7, 0.7, 2.5),
    seed: int = 0,
) -> SimpleITK.Image:
    """Make a chest CT: lungs with vessels, heart, ribs, spine and table, noise and padding.

    A slice, including its noise, depends only on its position along z: at half the spacing, every
    second slice is the same as before, and those between are the truth for an interpolation. In
    plane, the chest fills the field of view, whatever its size.

    Parameters
    ----------
    size
        Rows and columns.
    slices
        Number of slices.
    spacing
        Spacing of columns, rows and slices in mm.
    seed
        Seed for the vessels and the noise, not negative.

    Returns
    -------
    SimpleITK.Image
        int16 HU, axial, with -2048 outside a circular field of view.

    Raises
    ------
    UsageError
        If a number is out of range.
    """
    if size < 16 or slices < 1 or seed < 0 or not all(0 < s < np.inf for s in spacing):
        raise UsageError(
            "a phantom needs a size of at least 16, at least one slice, positive spacings and a "
            f"seed of at least 0, not {size}, {slices}, {spacing} and {seed}"
        )
    tree = vessels(seed, (slices - 1) * spacing[2])
    stack = [_slice(size, index * spacing[2], seed, tree) for index in range(slices)]
    return _image(np.stack(stack), spacing)


def _slice(size: int, z: float, seed: int, tree: list[Segment]) -> NDArray[np.int16]:
    """HU of the slice at ``z`` mm, ``(size, size)``."""
    pixel = 2 * RADIUS / size
    place = np.asarray((np.arange(size) + 0.5) * pixel - RADIUS, np.float64)
    x, y = place[None, :], place[:, None]
    random = np.random.default_rng((seed, round(z * 1000)))
    centre = np.exp(-((x / 110) ** 2 + (y / 85) ** 2))
    deviation = NOISE_EDGE + (NOISE_CENTRE - NOISE_EDGE) * centre
    anatomy = _blur(chest(x, y, z, pixel, tree))
    hu = np.clip(np.rint(anatomy + deviation * _noise(random, size)), *CT_RANGE)
    return np.where(x**2 + y**2 > RADIUS**2, PADDING, hu).astype(np.int16)


def _blur(image: Plane) -> Plane:
    frequency = _frequency(image.shape[0])
    return _filter(image, np.exp(-2 * (np.pi * BLUR * frequency) ** 2))


def _noise(random: np.random.Generator, size: int) -> Plane:
    """Noise of mean 0 and variance 1 with the power spectrum of filtered back-projection.

    The spectrum is a ramp cut off by the reconstruction kernel (Riederer et al., Phys. Med. Biol.
    23, 446, 1978, doi:10.1088/0031-9155/23/3/008).
    """
    frequency = _frequency(size)
    power = frequency * np.exp(-((frequency / KERNEL_FREQUENCY) ** 2))
    noise = _filter(random.standard_normal((size, size)), np.sqrt(power))
    return np.asarray(noise / noise.std())


def _frequency(size: int) -> Plane:
    """Radial frequency in cycles per pixel, for `numpy.fft.rfft2` of ``(size, size)``."""
    return np.asarray(np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)))


def _filter(image: Plane, transfer: Plane) -> Plane:
    return np.asarray(np.fft.irfft2(np.fft.rfft2(image) * transfer, image.shape))


def _image(array: NDArray[np.int16], spacing: tuple[float, float, float]) -> SimpleITK.Image:
    """Make an image with its in-plane centre at 0 and its first slice at z = 0."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin([-(array.shape[1] - 1) / 2 * s for s in spacing[:2]] + [0.0])
    return image
