"""The memory of backends that run on the CPU: NumPy arrays."""

from __future__ import annotations

import numpy as np

from pmtool.arrays import Float32s
from pmtool.errors import OUT_OF_MEMORY, MemoryBudgetError
from pmtool.models.hyperparameters import RESIDUAL_MAX
from pmtool.pixels.mixture import nearer_tail
from pmtool.pixels.uniforms import Places, window_uniforms


class HostMemory:
    """See `Memory`."""

    def zeros(self, *shape: int) -> Float32s:
        try:
            return np.zeros(shape, np.float32)
        except MemoryError as error:
            raise MemoryBudgetError(OUT_OF_MEMORY) from error

    def clear(self, array: Float32s) -> None:
        array[:] = 0

    def copy(self, target: Float32s, source: Float32s) -> None:
        target[:] = source

    def upload(self, target: Float32s, values: Float32s) -> None:
        target[:] = values

    def download(self, array: Float32s) -> Float32s:
        return array.copy()

    def tails(self, target: Float32s, seed: int, places: Places) -> None:
        target[:] = nearer_tail(window_uniforms(seed, places, *target.shape[:2]))

    def load_row(self, plane: Float32s, row: int, target: Float32s) -> None:
        target[:] = plane[:, row].transpose(1, 0, 2)

    def standardise(self, pixels: Float32s, mixture: Float32s, residuals: Float32s) -> None:
        mean, log_scale = mixture[..., -2], mixture[..., -1]
        standardised = (pixels - mean) * np.exp(-log_scale)
        standardised.clip(-RESIDUAL_MAX, RESIDUAL_MAX, out=residuals)

    def wait(self) -> None:
        """Return at once: every call has finished its work."""
