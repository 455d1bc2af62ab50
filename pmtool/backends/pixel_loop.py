"""pmtool's own loop over a row's pixels: engines are slow at many small consecutive steps."""

from __future__ import annotations

import warnings
from ctypes import CDLL
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pmtool.choices import Precision
from pmtool.interface.protocol import Arrays, Program
from pmtool.models.bundle import Bundle

if TYPE_CHECKING:
    from pmtool.kernels.launch import CudaPixelRow, PixelWeights

PixelsBy = Literal["kernel", "engine"]
"""What generates pixels: a `PixelLoop`, or the engine that runs the other graphs."""


class PixelLoop(Protocol):
    """pmtool's own code that replaces an engine's pixel graphs."""

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`."""


class CpuPixels:
    """The loop compiled for the CPU, with the weights of a bundle.

    Parameters
    ----------
    library
        The compiled loop, see `pmtool.kernels.cpu.library`.
    bundle
        The model.
    """

    def __init__(self, library: CDLL, bundle: Bundle) -> None:
        from pmtool.kernels.cpu import PixelMatrices
        from pmtool.kernels.weights import bundle_weights

        self._library = library
        self._matrices = PixelMatrices(bundle.hyperparameters, bundle_weights(bundle))

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`."""
        from pmtool.kernels.cpu import CpuPixelRow

        return CpuPixelRow(self._library, self._matrices, graph, arrays)


def cpu_pixels(bundle: Bundle) -> CpuPixels | None:
    """Return the compiled loop with a bundle's weights; warn and return None if there is none."""
    from pmtool.kernels.cpu import library

    compiled = library()
    if compiled is not None:
        return CpuPixels(compiled, bundle)
    warnings.warn(
        "pmtool was installed without its compiled loop over pixels, so that slices take two to "
        "three times as long: install a C++ compiler, and then pmtool again",
        stacklevel=2,
    )
    return None


class PixelKernel:
    """The persistent kernel on a GPU with the weights of a bundle, which all pixel graphs share.

    Parameters
    ----------
    bundle
        The model.
    precision
        Precision of the weights.
    device
        The GPU, a `pmtool.kernels.cuda.CudaDevice`.
    """

    def __init__(self, bundle: Bundle, precision: Precision, device: Any) -> None:
        self.bundle, self.precision, self.device = bundle, precision, device
        self._weights: PixelWeights | None = None

    @property
    def version(self) -> str:
        """Digest of the kernel's source code."""
        from pmtool.kernels.compile import sources_digest

        return sources_digest()

    def bind(self, graph: str, arrays: Arrays) -> CudaPixelRow:
        """See `Backend.bind`; raises `UsageError` if the kernel does not fit the GPU or model."""
        from pmtool.kernels.launch import CudaPixelRow, PixelWeights
        from pmtool.kernels.packing import pack
        from pmtool.kernels.weights import bundle_weights

        if self._weights is None:
            weights = bundle_weights(self.bundle)
            packed = pack(weights, self.bundle.hyperparameters, self.precision)
            self._weights = PixelWeights(self.device, packed)
        return CudaPixelRow(self._weights, graph, dict(arrays))
