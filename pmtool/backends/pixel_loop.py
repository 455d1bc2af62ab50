"""pmtool's own loop over a row's pixels: engines are slow at many small consecutive steps."""

from __future__ import annotations

import warnings
from typing import Protocol

from pmtool.choices import Precision
from pmtool.interface.protocol import Arrays, Program
from pmtool.kernels import cpu
from pmtool.kernels.launch import Launcher, PixelKernel
from pmtool.kernels.packing import pack
from pmtool.kernels.weights import bundle_weights
from pmtool.models.bundle import Bundle


class PixelLoop(Protocol):
    """pmtool's own code that replaces an engine's pixel graphs."""

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`."""


def cpu_pixels(bundle: Bundle) -> cpu.CpuPixels | None:
    """Return the compiled loop with a bundle's weights; warn and return None if there is none."""
    compiled = cpu.library()
    if compiled is not None:
        return cpu.CpuPixels(compiled, bundle.hyperparameters, bundle_weights(bundle))
    warnings.warn(
        "pmtool was installed without its compiled loop over pixels, so that slices take two to "
        "three times as long: install a C++ compiler, and then pmtool again",
        stacklevel=2,
    )
    return None


def gpu_pixels(bundle: Bundle, precision: Precision, device: Launcher) -> PixelKernel:
    """Return the kernel on a GPU with a bundle's weights.

    Raises `UsageError` if the network has too many channels for it.
    """
    return PixelKernel(device, pack(bundle_weights(bundle), bundle.hyperparameters, precision))
