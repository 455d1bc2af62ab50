"""Timing work in PyTorch on any device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

RUNS, PATIENCE = 10, 5.0
"""Number of timed runs of the same work, and the time in seconds after which no new run begins."""


def repeat(work: Callable[[], object], device: str = "cpu") -> list[float]:
    """Seconds of repeated runs: `RUNS` of them, or fewer if they take long."""
    seconds: list[float] = []
    while len(seconds) < RUNS and sum(seconds) < PATIENCE:
        seconds.append(seconds_of(work, device))
    return seconds


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Seconds that some work takes until it is done on the device."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def torch_device(name: str) -> str:
    """Name of a device, or the CPU if PyTorch has no access to that device."""
    return name if name == "cpu" or torch.cuda.is_available() else "cpu"


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
