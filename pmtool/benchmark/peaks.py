"""What a device could do at best: its matrix products and its memory, measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from pmtool.benchmark.timing import repeat, torch_threads

GEMM_SIZE = {"cpu": 1536, "cuda": 8192}
"""Size of the matrix product, by kind of device."""
COPY_BYTES = 1 << 30
"""Beyond most caches."""


class Peak(NamedTuple):
    """Peaks of a device, at a precision.

    Attributes
    ----------
    gemm
        Operations a second of a large matrix product.
    bandwidth
        Bytes a second of a large copy, those read and those written.
    """

    device: str
    precision: str
    gemm: float
    bandwidth: float

    def to_json(self) -> dict[str, Any]:
        """In units of 1e9 operations and of 1e9 bytes."""
        return {
            "device": self.device,
            "precision": self.precision,
            "gemm_gflops": self.gemm / 1e9,
            "gb_per_second": self.bandwidth / 1e9,
        }


def measure_peak(device: str, precision: str, threads: int) -> Peak:
    """The best of several runs, by PyTorch."""
    with torch_threads(threads):
        return Peak(device, precision, gemm_peak(device, precision), bandwidth(device))


def gemm_peak(device: str = "cpu", precision: str = "float32") -> float:
    """Operations a second of a large square matrix product."""
    size = GEMM_SIZE[torch.device(device).type]
    a, b = torch.rand(2, size, size, device=device).to(getattr(torch, precision))
    return 2 * size**3 / min(repeat(lambda: a @ b, device))


def bandwidth(device: str = "cpu") -> float:
    """Bytes a second, read and written, of a large copy."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * COPY_BYTES / min(repeat(lambda: target.copy_(source), device))
