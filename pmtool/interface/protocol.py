"""The protocol between the sampler and an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.choices import Precision
from pmtool.pixels.uniforms import Places

Array = Any
"""A C-contiguous float32 array on a backend's device: a NumPy array, a tensor or a device array.

``a[i]`` and ``a[i:j]`` along the first axis and ``a.reshape(shape)`` are views of it.
"""
Arrays = Mapping[str, Array]


def address(array: Array) -> int:
    """Address of an array's first element, on the host or on a GPU."""
    interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return int(interface["data"][0])


class Memory(Protocol):
    """The memory of a backend's device, and the few operations on it outside the graphs.

    Operations run in order; on a GPU they may run after the call returns, and `wait` waits for
    them.
    """

    def zeros(self, *shape: int) -> Array:
        """Return a new array of zeros; raises `MemoryBudgetError` if memory is short."""

    def clear(self, array: Array) -> None:
        """Set an array to zero."""

    def copy(self, target: Array, source: Array) -> None:
        """Copy ``source`` to ``target``, which have the same shape and do not overlap."""

    def upload(self, target: Array, values: Float32s) -> None:
        """Copy an array from the host to ``target``, which has the same shape."""

    def download(self, array: Array) -> Float32s:
        """Return a copy of an array on the host."""

    def tails(self, target: Array, seed: int, places: Places) -> None:
        """Draw the uniform numbers of windows at their places.

        ``target`` ``(H, W, M)`` receives them as tails, see `pmtool.pixels.mixture.nearer_tail`.
        """

    def corners(self, values: NDArray[np.int64]) -> Array:
        """Keep the corners of windows ``(N, 3)`` for the three operations that follow.

        A corner is the index of a slice and the row and column of a window's first pixel in it.
        """

    def load_windows(self, slices: Array, corners: Array, target: Array) -> None:
        """Copy windows of slices ``(P, H, W)`` to ``target`` ``(N, 1, h, w)``."""

    def load_pixels(self, slices: Array, corners: Array, row: int, target: Array) -> None:
        """Copy the first pixels of a row of windows of slices ``(P, H, W)``.

        ``target`` ``(n, M)`` receives them for the first ``N`` of ``M`` lanes.
        """

    def store_pixels(
        self, slices: Array, corners: Array, row: int, column: int, pixels: Array
    ) -> None:
        """Copy pixels ``(n, M)`` of the first ``N`` lanes to windows of slices ``(P, H, W)``.

        They come to lie in a row of the windows, from ``column`` on. No two windows may have such a
        pixel in common.
        """

    def load_row(self, plane: Array, row: int, target: Array) -> None:
        """Copy a row of planes ``(M, H, W, C)`` to ``target`` ``(W, M, C)``."""

    def standardise(self, pixels: Array, mixture: Array, residuals: Array) -> None:
        """Compute the residuals ``(n, M)`` of known pixels ``(n, M)`` in [-1, 1].

        The midpoint's mean and log-scale are the last two channels of ``mixture``
        ``(n, M, channels)``. Residuals are limited to +/- `RESIDUAL_MAX`.
        """

    def wait(self) -> None:
        """Wait until all operations are done."""


class Program(Protocol):
    """A graph bound to its arrays."""

    def run(self) -> None:
        """Run the graph on the arrays."""


class Backend(Protocol):
    """An engine with a loaded model on a device.

    Its graphs are those of `pmtool.interface.graph_names`.

    Attributes
    ----------
    name
        ``onnxruntime-cpu``, ``openvino``, ``onnxruntime-cuda``, ``torch`` or ``tensorrt``.
    device
        ``cpu`` or ``cuda:N``.
    precision
        Precision of matrix products and convolutions.
    windows_per_call
        Largest number of windows in a call of the window graph.
    keeps_programs
        Whether programs are expensive to make and should be kept. If so, batch sizes are rounded up
        to a few values, see `pmtool.sampling.lane_cache.kept_lanes`.
    """

    name: str
    device: str
    precision: Precision
    windows_per_call: int
    keeps_programs: bool

    @property
    def memory(self) -> Memory:
        """Memory of the device."""

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """Bind a graph to arrays of `memory`, inputs and outputs by name.

        An input and an output may share an array. The pixel graph is bound to columns of features,
        in groups of four pixels: ``(groups, n, M, channels)``, see `PixelGraph`.
        """
