"""The naive sampler: one forward pass of the whole network for every pixel.

It is the permanent specification of the cached sampler (paper, section 2.3): it uses the same
windows and the same uniform numbers, and keeps nothing from one pixel to the next.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.choices import Mode
from pmtool.interface.host import HostMemory
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.pixels.levels import to_hounsfield, to_pixels
from pmtool.pixels.mixture import Mixture, choose
from pmtool.pixels.uniforms import window_uniforms
from pmtool.sampling.pairs import Neighbours, PairGroup, SlicePair
from pmtool.sampling.windows import Window, padded_size, wavefronts


class Network(Protocol):
    """A network as the naive sampler sees it."""

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyper-parameters of the network."""

    def __call__(self, neighbours: Neighbours, target: Float32s) -> Mixture:
        """Return the mixtures of all pixels of a target: ``(H, W) -> (H, W, components)``."""


def generate_window(
    network: Network,
    neighbours: Neighbours,
    known: Float32s,
    window: Window,
    uniforms: Float32s,
    mode: Mode = "sample",
) -> Float32s:
    """Generate a window in raster order.

    Parameters
    ----------
    neighbours
        The window of the acquired neighbours, ``N = 1``.
    known
        Known pixels ``(H, W)`` in [-1, 1]; only the window's known rows and columns are read.
    uniforms
        Uniform numbers, ``(H, W)`` in (0, 1).

    Returns
    -------
    NDArray[np.float32]
        Generated window, ``(H, W)`` in [-1, 1].
    """
    bits = network.hyperparameters.bits
    target = np.zeros_like(known)
    target[: window.known_rows] = known[: window.known_rows]
    target[:, : window.known_columns] = known[:, : window.known_columns]
    for row in range(window.known_rows, window.height):
        for column in range(window.known_columns, window.width):
            mixtures = network(neighbours, target)
            pixel = Mixture(*(values[row, column] for values in mixtures))
            target[row, column] = to_pixels(choose(pixel, uniforms[row, column], bits, mode), bits)
    return target


def generate_slice(
    network: Network, pair: SlicePair, window: int = 64, seed: int = 0, mode: Mode = "sample"
) -> NDArray[np.int16]:
    """Generate the slice between a pair, ``(H, W)`` in HU, in windows of ``window`` pixels."""
    height, width = pair.above.shape
    shape = padded_size(height), padded_size(width)
    group = PairGroup(network.hyperparameters, [pair], shape, HostMemory())
    generated = np.zeros(shape, np.float32)
    for front in wavefronts(shape, (min(window, shape[0]), min(window, shape[1]))):
        for place in front:
            target = generated[place.area]
            uniforms = window_uniforms(seed, group.places([(0, place)]), *place[2:4])[..., 0]
            neighbours = group.neighbours([(0, place)])
            target[:] = generate_window(network, neighbours, target, place, uniforms, mode)
    return to_hounsfield(generated[:height, :width], network.hyperparameters)
