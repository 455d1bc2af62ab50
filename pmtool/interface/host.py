"""The memory of backends that run on the CPU: NumPy arrays."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

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

    def corners(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        return values

    def load_windows(self, slices: Float32s, corners: NDArray[np.int64], target: Float32s) -> None:
        windows = sliding_window_view(slices, target.shape[1:])
        target[:] = windows[tuple(corners.T)]

    def load_pixels(
        self, slices: Float32s, corners: NDArray[np.int64], row: int, target: Float32s
    ) -> None:
        slice_, top, left = corners.T
        pixels = sliding_window_view(slices, len(target), axis=2)[slice_, top + row, left]
        target[:, : len(corners)] = pixels.T

    def store_pixels(
        self,
        slices: Float32s,
        corners: NDArray[np.int64],
        row: int,
        column: int,
        pixels: Float32s,
    ) -> None:
        slice_, top, left = corners.T
        columns = left + column + np.arange(len(pixels))[:, None]
        slices[slice_, top + row, columns] = pixels[:, : len(corners)]

    def load_row(self, plane: Float32s, row: int, target: Float32s) -> None:
        target[:] = plane[:, row].transpose(1, 0, 2)

    def standardise(self, pixels: Float32s, mixture: Float32s, residuals: Float32s) -> None:
        mean, log_scale = mixture[..., -2], mixture[..., -1]
        standardised = (pixels - mean) * np.exp(-log_scale)
        standardised.clip(-RESIDUAL_MAX, RESIDUAL_MAX, out=residuals)

    def wait(self) -> None:
        """Return at once: every call has finished its work."""
