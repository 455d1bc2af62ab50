"""What the sampler asks of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from pmtool.arrays import Float32s
from pmtool.pixels.uniforms import Places

Array = Any
"""Float32, C-contiguous, on a backend's device: a NumPy array, a tensor, a device array.

``a[i]`` and ``a[i:j]`` along the first axis and ``a.reshape(shape)`` are views of it.
"""
Arrays = Mapping[str, Array]
Precision = Literal["float32", "float16", "bfloat16"]
"""Type of the factors of matrix products and convolutions; arrays are always float32."""


def address(array: Array) -> int:
    """Where an array's first element lies, on the host or on a GPU."""
    interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return int(interface["data"][0])


class Memory(Protocol):
    """The memory of a backend's device, and the little that is done there outside of the graphs.

    What is asked for is done in order, on a GPU later than the call; `wait` waits for it.
    """

    def zeros(self, *shape: int) -> Array:
        """A new array; raises `MemoryBudgetError` if there is no room for it."""

    def clear(self, array: Array) -> None:
        """Set all of it to zero."""

    def copy(self, target: Array, source: Array) -> None:
        """Between two arrays of one shape that do not overlap."""

    def upload(self, target: Array, values: Float32s) -> None:
        """From the host, from an array of the same shape."""

    def download(self, array: Array) -> Float32s:
        """A copy on the host."""

    def tails(self, target: Array, seed: int, places: Places) -> None:
        """Uniform numbers by their nearer tail, ``(H, W, M)``, of windows at their places."""

    def load_row(self, plane: Array, row: int, target: Array) -> None:
        """A row of planes ``(M, H, W, C)``, columns first: ``(W, M, C)``."""

    def standardise(self, pixels: Array, mixture: Array, residuals: Array) -> None:
        """Residuals ``(n, M)`` of known pixels ``(n, M)`` in [-1, 1].

        The midpoint's mean and log-scale are the last two channels of ``mixture``,
        ``(n, M, channels)``; residuals are limited by `RESIDUAL_MAX`.
        """

    def wait(self) -> None:
        """Until everything that was asked for is done."""


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
        ``onnxruntime-cpu``, ``onnxruntime-cuda``, ``torch`` or ``tensorrt``.
    device
        ``cpu`` or ``cuda:N``.
    windows_per_call
        Most windows that a call of the window graph takes.
    keeps_programs
        Whether programs are dear to make, and shall be kept; batches are then rounded up, see
        `pmtool.sampling.lane_cache.kept_lanes`, so that there are few of them.
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

        An input and an output may share an array. The pixel graph is bound to
        its columns, in groups of four: ``(groups, n, M, channels)``, see `PixelGraph`.
        """
