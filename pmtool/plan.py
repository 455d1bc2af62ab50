"""How much of a job runs at once: windows, workers, lanes and the memory they take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, NamedTuple

import psutil

from pmtool.backends.devices import CPU, free_gpu_memory
from pmtool.backends.protocol import Precision
from pmtool.buffers import Buffers
from pmtool.errors import MemoryBudgetError, UsageError
from pmtool.hyperparameters import Hyperparameters
from pmtool.layout import Layout
from pmtool.limits import free_memory, gibibytes, total_memory
from pmtool.mixture import Mode
from pmtool.windows import balanced, padded_size, wavefronts

DEFAULT_WINDOW = 192
"""Edges are kept as with the paper's 64, in less time: benchmarks/results/cpu-2-cores.json."""
MOST_LANES = 16
"""More windows at once gain nothing on a CPU."""
GPU_WINDOW, MOST_GPU_LANES = 64, 4096
"""The paper's windows have the shortest chain of dependent steps; not yet measured on a GPU."""
GPU_SHARE = 0.8
"""Of a GPU's free memory, for the buffers; the engine takes the rest."""
SCRATCH = 5.0
"""Memory of the window graph's run in units of its outputs."""
OPERATIONS, ENCODER_OPERATIONS = 4.7e6 / 32**2, 188
"""Of one forward pass, for every pixel and squared channel of the stacks or the encoder."""
OPERATIONS_PER_SECOND = 25e9
"""That a core reaches over a whole job; a guess for the time to come, nothing depends on it."""


@dataclass(frozen=True)
class SamplerOptions:
    """What a user may ask of the sampler.

    Attributes
    ----------
    window
        Height and width of the windows, ``"full"`` for the whole slice, or the device's default.
    batch
        Windows at once.
    threads
        Of the processor; all of them by default.
    memory
        Bytes for the whole process; half of the machine's by default, and never more than is free.
    seed
        Of the random numbers, ``0 <= seed < 2**64``.
    mode
        ``sample`` draws every pixel; ``median`` and ``mean`` take those of its distribution.
    device, backend, precision
        See `pmtool.backends.selection.choose_engine`.
    """

    window: int | Literal["full"] | None = None
    batch: int | None = None
    threads: int | None = None
    memory: int | None = None
    seed: int = 0
    mode: Mode = "sample"
    device: str = "auto"
    backend: str | None = None
    precision: Precision | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "memory"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be positive, not {value}")


class Estimate(NamedTuple):
    """What a job will take: bytes, the window's size, lanes, workers, a guess of the time."""

    memory: int
    window: int
    batch: int
    workers: int
    seconds_per_slice: float


class Plan(NamedTuple):
    """How a job runs. Only ``shape`` and ``window`` have an influence on the result."""

    shape: tuple[int, int]
    window: tuple[int, int]
    batch: int
    workers: int
    threads: int
    memory: int


def make_plan(
    layout: Layout,
    options: SamplerOptions,
    devices: tuple[str, ...],
    shape: tuple[int, int],
    pairs: int,
) -> Plan:
    """Divide the generation of ``pairs`` slices of ``shape`` among devices, threads and memory.

    Raises
    ------
    MemoryBudgetError
        If not even a single window fits.
    UsageError
        If the window is not possible.
    """
    padded = padded_size(shape[0]), padded_size(shape[1])
    on_gpu = devices != (CPU,)
    window = _window(options.window, padded, GPU_WINDOW if on_gpu else DEFAULT_WINDOW)
    wavefronts(padded, window)
    threads = options.threads or processors()
    if on_gpu:
        return _gpu_plan(layout, options, devices, padded, window, threads)
    resident = psutil.Process().memory_info().rss
    free = resident + free_memory()
    budget = min(options.memory or total_memory() // 2, free)
    lane = Buffers.size(layout, *window, 1)
    scratch = int(SCRATCH * lane)
    wanted = options.batch or MOST_LANES
    for workers in range(min(threads, pairs), 0, -1):
        lanes = ((budget - resident) // workers - scratch) // lane
        if lanes >= (1 if workers == 1 else 2):
            batch = min(wanted, int(lanes))
            memory = resident + workers * (scratch + batch * lane)
            return Plan(padded, window, batch, workers, threads, memory)
    needed, held = (gibibytes(size) for size in (resident + scratch + lane, budget))
    raise MemoryBudgetError(
        f"a window of {window[0]}x{window[1]} pixels needs {needed} of memory and {held} may be "
        "used: allow more with --memory or take a smaller --window"
    )


def _gpu_plan(
    layout: Layout,
    options: SamplerOptions,
    devices: tuple[str, ...],
    padded: tuple[int, int],
    window: tuple[int, int],
    threads: int,
) -> Plan:
    """A worker a GPU. Buffers are kept for batches of every power of two: twice the largest."""
    lane = Buffers.size(layout, *window, 1)
    lanes = int(GPU_SHARE * min(map(free_gpu_memory, devices)) / (2 * lane))
    batch = min(options.batch or MOST_GPU_LANES, 1 << max(lanes.bit_length() - 1, 0))
    return Plan(padded, window, batch, len(devices), threads, 2 * batch * lane)


def estimate(layout: Layout, plan: Plan) -> Estimate:
    """What the plan will take."""
    windows = [window for front in wavefronts(plan.shape, plan.window) for window in front]
    pixels = sum(window.height * window.width for window in windows)
    seconds = operations(layout.hyperparameters, pixels) / (OPERATIONS_PER_SECOND * plan.threads)
    return Estimate(plan.memory, max(plan.window), plan.batch, plan.workers, seconds)


def operations(hyperparameters: Hyperparameters, pixels: int) -> float:
    """Of one forward pass of the network on so many pixels."""
    stacks = OPERATIONS * hyperparameters.channels**2
    return pixels * (stacks + ENCODER_OPERATIONS * hyperparameters.encoder**2)


def _window(asked: int | str | None, padded: tuple[int, int], usual: int) -> tuple[int, int]:
    if asked == "full":
        return padded
    if asked is None:
        return balanced(padded[0], usual), balanced(padded[1], usual)
    size = int(asked)
    return min(size, padded[0]), min(size, padded[1])


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
