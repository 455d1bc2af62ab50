"""Assembling the output from acquired and generated slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.geometry.grid import Grid, OutputSlice
from pmtool.images.hounsfield import for_network, restore_padding, to_voxels
from pmtool.images.volume import Volume
from pmtool.resampling.journal import SliceKey, SliceStore


@dataclass(frozen=True)
class DyadicStack:
    """The nodes of a grid: acquired slices from a volume, generated ones from a store.

    Attributes
    ----------
    volume
        Input volume.
    grid
        Grid of the output.
    generated
        Generated slices, HU within ``hu_window``.
    hu_window
        Lowest and highest HU that the network knows.
    """

    volume: Volume
    grid: Grid
    generated: SliceStore
    hu_window: tuple[int, int]

    def node(self, node: int, sample: int = 0) -> NDArray[np.int16]:
        """A node ``(H, W)`` as the network sees it, HU within ``hu_window``."""
        nodes = self.grid.nodes
        if nodes.is_acquired(node):
            return for_network(self.volume.slices[nodes.slice_before(node)], self.hu_window)
        return self.generated[self.key(node, sample)]

    def key(self, node: int, sample: int) -> SliceKey:
        """Key of a generated node in the store."""
        return SliceKey(self.grid.number(node), sample)

    def render(self, output: OutputSlice, sample: int = 0) -> NDArray[Any]:
        """Render a slice of the output, ``(H, W)`` in the input's type.

        Acquired slices, and others that repeat them, are copied unchanged.
        """
        if output.is_copy:
            index = self.grid.nodes.slice_before(output.weights[0].node)
            return np.ascontiguousarray(self.volume.slices[index])
        pixels = self._made(output, sample)
        above, below = (self.volume.slices[index] for index in output.gap)
        restore_padding(pixels, above, below, self.hu_window[0])
        return pixels

    def deviation(self, output: OutputSlice, samples: int) -> NDArray[np.float32]:
        """Standard deviation of a slice over its samples; zero for copies of acquired slices.

        Samples are rendered one by one, because they may not all fit into memory [1]_.

        References
        ----------
        .. [1] Welford 1962, doi:10.1080/00401706.1962.10490022.
        """
        mean, squares = np.zeros((2, *self.volume.shape))
        if output.is_copy:
            return mean.astype(np.float32)
        for sample in range(samples):
            pixels = self.render(output, sample).astype(np.float64)
            off = pixels - mean
            mean += off / (sample + 1)
            squares += off * (pixels - mean)
        return np.sqrt(squares / (samples - 1)).astype(np.float32)

    def _made(self, output: OutputSlice, sample: int) -> NDArray[Any]:
        if len(output.weights) == 1:
            return to_voxels(self.node(output.weights[0].node, sample), self.volume.dtype)
        total = np.zeros(self.volume.shape)
        for weight in output.weights:
            total += weight.share * self.node(weight.node, sample)
        return to_voxels(np.clip(total, *self.hu_window), self.volume.dtype)


def assemble(stack: DyadicStack) -> sitk.Image:
    """Assemble the resampled volume."""
    image = stack.volume.empty_on(stack.grid)
    for index, output in enumerate(stack.grid.slices):
        stack.volume.put_slice(image, index, stack.render(output))
    return image


def uncertainty(stack: DyadicStack, samples: int) -> sitk.Image:
    """The standard deviation over the samples, HU, float32."""
    image = stack.volume.empty_on(stack.grid, sitk.sitkFloat32)
    for index, output in enumerate(stack.grid.slices):
        stack.volume.put_slice(image, index, stack.deviation(output, samples))
    return image
