"""pmtool's own loops, for graphs of many small steps, at which engines are slow."""

from __future__ import annotations

import warnings
from typing import Protocol

from pmtool.choices import Precision
from pmtool.interface.protocol import Arrays, Program
from pmtool.kernels import cpu
from pmtool.kernels.launch import Launcher, PixelKernel
from pmtool.kernels.packing import pack
from pmtool.kernels.weights import pixel_weights, row_weights
from pmtool.models.bundle import Bundle


class Loops(Protocol):
    """pmtool's own code that replaces some of an engine's graphs."""

    def covers(self, graph: str) -> bool:
        """Whether a graph is replaced."""

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`."""


def cpu_loops(bundle: Bundle) -> cpu.CpuLoops | None:
    """Return the compiled loops with a bundle's weights; warn and return None if there are none."""
    compiled = cpu.library()
    if compiled is not None:
        weights = pixel_weights(bundle), row_weights(bundle)
        return cpu.CpuLoops(compiled, bundle.hyperparameters, *weights)
    warnings.warn(
        "pmtool was installed without its compiled loops, so that slices take several times as "
        "long: install a C++ compiler, and then pmtool again",
        stacklevel=2,
    )
    return None


def gpu_pixels(bundle: Bundle, precision: Precision, device: Launcher) -> PixelKernel:
    """Return the kernel on a GPU with a bundle's weights.

    Raises `UsageError` if the network has too many channels for it.
    """
    return PixelKernel(device, pack(pixel_weights(bundle), bundle.hyperparameters, precision))
