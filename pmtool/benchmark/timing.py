"""Clocks for work in PyTorch, on any device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

RUNS, PATIENCE = 10, 5.0
"""Timed runs of the same work, and the seconds after which no more are begun."""


def repeat(work: Callable[[], object], device: str = "cpu") -> list[float]:
    """Seconds of every run: `RUNS` of them, fewer where they take long."""
    seconds: list[float] = []
    while len(seconds) < RUNS and sum(seconds) < PATIENCE:
        seconds.append(seconds_of(work, device))
    return seconds


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    """How long something takes, to its end on the device."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def torch_device(name: str) -> str:
    """A device by its name, or the CPU where PyTorch has no access to it."""
    return name if name == "cpu" or torch.cuda.is_available() else "cpu"


def free_cached_memory() -> None:
    """Give a GPU's memory that PyTorch holds for later back, for another engine to find it free."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch use as many threads as the sampler."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep a GPU from convolutions in TF32, PyTorch's default: the network is the reference."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
