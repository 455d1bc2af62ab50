"""The memory of backends that run on the processor: NumPy arrays."""

from __future__ import annotations

import numpy as np

from pmtool.backends.protocol import Floats
from pmtool.errors import OUT_OF_MEMORY, MemoryBudgetError
from pmtool.models.hyperparameters import RESIDUAL_MAX
from pmtool.pixels.mixture import nearer_tail
from pmtool.pixels.uniforms import Places, window_uniforms


class HostMemory:
    """See `Memory`."""

    def zeros(self, *shape: int) -> Floats:
        try:
            return np.zeros(shape, np.float32)
        except MemoryError as error:
            raise MemoryBudgetError(OUT_OF_MEMORY) from error

    def clear(self, array: Floats) -> None:
        array[:] = 0

    def copy(self, target: Floats, source: Floats) -> None:
        target[:] = source

    def upload(self, target: Floats, values: Floats) -> None:
        target[:] = values

    def download(self, array: Floats) -> Floats:
        return array.copy()

    def tails(self, target: Floats, seed: int, places: Places) -> None:
        target[:] = nearer_tail(window_uniforms(seed, places, *target.shape[:2]))

    def load_row(self, plane: Floats, row: int, target: Floats) -> None:
        target[:] = plane[:, row].transpose(1, 0, 2)

    def give(self, pixels: Floats, mixture: Floats, residuals: Floats) -> None:
        mean, log_scale = mixture[..., -2], mixture[..., -1]
        standardised = (pixels - mean) * np.exp(-log_scale)
        standardised.clip(-RESIDUAL_MAX, RESIDUAL_MAX, out=residuals)

    def wait(self) -> None:
        """Nothing is left to wait for: all is done in the calls."""
