"""The loop over a row's pixels as one persistent kernel, for the engines on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pmtool.backends.protocol import Arrays, Precision
from pmtool.models.bundle import Bundle

if TYPE_CHECKING:
    from pmtool.kernels.launch import PixelRowProgram, PixelWeights

Pixels = Literal["kernel", "engine"]
"""Whether the kernel generates the pixels, or the engine that runs the other graphs."""


class PixelKernel:
    """The kernel with the weights of a bundle, which all pixel graphs share.

    Parameters
    ----------
    device
        `pmtool.kernels.device.CudaDevice`.
    """

    def __init__(self, bundle: Bundle, precision: Precision, device: Any) -> None:
        self.bundle, self.precision, self.device = bundle, precision, device
        self._weights: PixelWeights | None = None

    def bind(self, graph: str, arrays: Arrays) -> PixelRowProgram:
        """See `Backend.bind`; raises `UsageError` if the GPU or the model is not for the kernel."""
        from pmtool.kernels.launch import PixelRowProgram, PixelWeights
        from pmtool.kernels.packing import pack
        from pmtool.kernels.weights import bundle_weights

        if self._weights is None:
            weights = bundle_weights(self.bundle)
            packed = pack(weights, self.bundle.hyperparameters, self.precision)
            self._weights = PixelWeights(self.device, packed)
        return PixelRowProgram(self._weights, graph, dict(arrays))
