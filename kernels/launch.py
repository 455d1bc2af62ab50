"""The kernels as functions of arrays on the device; for NumPy see `reference` and `HostMemory`.

An array is any C-contiguous float32 object that gives its address in ``__cuda_array_interface__``
or, for the kernels on a CPU, in ``__array_interface__``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pmtool.interface.graph_names import is_pixel_graph
from pmtool.interface.protocol import Array, Arrays, address
from pmtool.kernels.compile import sources_digest
from pmtool.kernels.packing import GROUP, Packed
from pmtool.kernels.pixel_arrays import PixelArrays
from pmtool.kernels.placement import place, threads, tile_lanes
from pmtool.models.hyperparameters import LEVELS
from pmtool.pixels.uniforms import Places

THREADS = 256


class Launcher(Protocol):
    """A device with the compiled kernels.

    Attributes
    ----------
    shared_limit
        Largest number of bytes of shared memory in a block.
    multiprocessors
        Number of multiprocessors; at least as many blocks run at once.
    """

    shared_limit: int
    multiprocessors: int

    def launch(
        self, kernel: str, blocks: int, threads: int, shared: int, words: Sequence[int]
    ) -> None:
        """Start a kernel, whose arguments are words of 64 bits."""

    def allocate(self, *shape: int) -> Array:
        """Return an uninitialised array on the device."""

    def keep(self, values: NDArray[Any]) -> Array:
        """Copy an array to the device, with its bytes interpreted as float32."""


def origins(places: Places) -> NDArray[np.uint32]:
    """Places of windows in the form that `tails` reads, ``(M, 4)``."""
    return np.stack([np.asarray(x, np.uint32) for x in places], axis=1)


def tails(launcher: Launcher, target: Array, seed: int, origins: Array) -> None:
    """Draw uniform numbers into ``target`` ``(H, W, M)``, as nearer tails.

    ``origins`` is the result of `origins`, on the device.
    """
    words = [address(target), address(origins), seed, *target.shape]
    launcher.launch("tails", *_grid(prod(target.shape)), 0, words)


def load_windows(launcher: Launcher, slices: Array, corners: Array, target: Array) -> None:
    """See `pmtool.interface.protocol.Memory.load_windows`."""
    count, _, height, width = target.shape
    words = [*map(address, (target, slices, corners)), count, height, width, *slices.shape[1:]]
    launcher.launch("load_windows", *_grid(prod(target.shape)), 0, words)


def load_pixels(launcher: Launcher, slices: Array, corners: Array, row: int, target: Array) -> None:
    """See `pmtool.interface.protocol.Memory.load_pixels`."""
    _move_pixels(launcher, "load_pixels", slices, corners, row, 0, target)


def store_pixels(
    launcher: Launcher, slices: Array, corners: Array, row: int, column: int, pixels: Array
) -> None:
    """See `pmtool.interface.protocol.Memory.store_pixels`."""
    _move_pixels(launcher, "store_pixels", slices, corners, row, column, pixels)


def _move_pixels(
    launcher: Launcher,
    kernel: str,
    slices: Array,
    corners: Array,
    row: int,
    column: int,
    pixels: Array,
) -> None:
    """Copy pixels ``(n, M)`` from or to the windows at the corners, in their first lanes."""
    count, places = len(corners), [row, column]
    addresses = map(address, (pixels, slices, corners))
    words = [*addresses, count, *pixels.shape, *places, *slices.shape[1:]]
    launcher.launch(kernel, *_grid(count * len(pixels)), 0, words)


def load_row(launcher: Launcher, plane: Array, row: int, target: Array) -> None:
    """Copy a row of planes ``(M, H, W, C)`` into ``target`` ``(W, M, C)``."""
    lanes, height, width, channels = plane.shape
    words = [address(target), address(plane), row, lanes, height, width, channels]
    launcher.launch("load_row", *_grid(prod(target.shape)), 0, words)


def standardise(launcher: Launcher, pixels: Array, mixture: Array, residuals: Array) -> None:
    """Compute residuals ``(n, M)`` of known pixels ``(n, M)`` with mixtures ``(n, M, X)``."""
    count = prod(pixels.shape)
    words = [address(x) for x in (residuals, pixels, mixture)]
    launcher.launch("standardise", *_grid(count), 0, [*words, count, mixture.shape[-1]])


class PixelKernel:
    """The kernel `pixel_row` on a device with a model's weights, for all programs on it."""

    def __init__(self, launcher: Launcher, packed: Packed) -> None:
        self.launcher, self.packed = launcher, packed
        self.matrices = launcher.keep(packed.matrices)
        self.vectors = launcher.keep(packed.vectors)

    @property
    def version(self) -> str:
        """Digest of the kernel's source code."""
        return sources_digest()

    def covers(self, graph: str) -> bool:
        """See `pmtool.backends.loops.Loops`."""
        return is_pixel_graph(graph)

    def bind(self, graph: str, arrays: Arrays, tile: int | None = None) -> CudaPixelRow:
        """See `Backend.bind` and, for ``tile`` and the errors raised, `CudaPixelRow`."""
        return CudaPixelRow(self, graph, arrays, tile)


class CudaPixelRow:
    """The pixel loop of a row, all columns in one launch.

    Parameters
    ----------
    kernel
        The kernel and the model's weights, on the device that runs the loop.
    graph, arrays
        See `PixelArrays`; the arrays must not be moved.
    tile
        Number of lanes of a block, 8 or 16; that of `tile_lanes` if None.

    Raises
    ------
    UsageError
        If the GPU has too little shared memory.
    """

    def __init__(self, kernel: PixelKernel, graph: str, arrays: Arrays, tile: int | None) -> None:
        launcher, packed = kernel.launcher, kernel.packed
        self.kernel, self.launcher, self.packed = kernel, launcher, packed
        self.arrays = PixelArrays(packed.hyperparameters, graph, arrays)
        depth, lanes, limit = self.arrays.depth, self.arrays.lanes, launcher.shared_limit
        tile = tile or tile_lanes(packed, lanes, launcher.multiprocessors, limit)
        self.placement = place(packed, depth, tile, limit)
        self.blocks = -(-lanes // tile)
        self.workspace = launcher.allocate(-(-self.blocks * self.placement.workspace_bytes // 4))
        self.lines = [launcher.keep(self.arrays.lines(level)) for level in range(depth)]
        self.words = self._row()

    def run(self) -> None:
        """Generate the row."""
        name = f"pixel_row_{self.packed.precision}_{self.placement.tile}"
        shared = self.placement.shared_bytes
        self.launcher.launch(name, self.blocks, threads(self.packed), shared, self.words)

    def _row(self) -> list[int]:
        """Words of ``Row`` of pixel_row.cuh."""
        placement, padded = self.placement, GROUP * self.packed.groups
        vectors = [address(self.kernel.vectors) + 4 * start for start in (0, padded, 3 * padded)]
        return [
            *self.arrays.sizes(),
            placement.workspace_bytes,
            *(address(self.kernel.matrices), address(self.workspace)),
            *vectors,
            *self.arrays.addresses(),
            *(word for level in range(LEVELS) for word in self._level(level)),
        ]

    def _level(self, level: int) -> list[int]:
        """Words of ``Level`` of pixel_row.cuh."""
        sizes, placement = self.packed.sizes, self.placement
        return [
            *(self.arrays.at(f"h_shares{level}"), self.arrays.at(f"h{level}_carry_next")),
            address(self.lines[level]) if level < self.arrays.depth else 0,
            *placement.states[level],
            *placement.weights[level],
            *(sum(sizes[:level]), sizes[level]),
        ]


def _grid(count: int) -> tuple[int, int]:
    """Number of blocks and of threads per block for a number of elements."""
    return min(-(-count // THREADS), 4096), THREADS
