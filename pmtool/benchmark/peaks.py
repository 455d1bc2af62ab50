"""Peaks of a device: the measured speeds of its matrix products and of its memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from pmtool.backends.torch_threads import torch_threads
from pmtool.benchmark.timing import repeat

GEMM_SIZE = {"cpu": 1536, "cuda": 8192}
"""Height and width of the matrices, by kind of device."""
COPY_BYTES = 1 << 30
"""Size of the copied array in bytes; larger than most caches."""


class Peak(NamedTuple):
    """Peaks of a device at a precision.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda:N``.
    precision
        Type of the matrices.
    gemm
        Operations per second in a large matrix product.
    bandwidth
        Bytes read and written per second in a large copy.
    """

    device: str
    precision: str
    gemm: float
    bandwidth: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, in 1e9 operations and 1e9 bytes per second."""
        return {
            "device": self.device,
            "precision": self.precision,
            "gemm_gflops": self.gemm / 1e9,
            "gb_per_second": self.bandwidth / 1e9,
        }


def measure_peak(device: str, precision: str, threads: int) -> Peak:
    """Measure the peaks in PyTorch, as the best of several runs."""
    with torch_threads(threads):
        return Peak(device, precision, gemm_peak(device, precision), bandwidth(device))


def gemm_peak(device: str = "cpu", precision: str = "float32") -> float:
    """Operations per second in a product of large square matrices."""
    size = GEMM_SIZE[torch.device(device).type]
    a, b = torch.rand(2, size, size, device=device).to(getattr(torch, precision))
    return 2 * size**3 / min(repeat(lambda: a @ b, device))


def bandwidth(device: str) -> float:
    """Bytes read and written per second in a large copy."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * COPY_BYTES / min(repeat(lambda: target.copy_(source), device))
