"""Plan of how much of a job runs at once: windows, workers, lanes and their memory."""

from __future__ import annotations

from typing import NamedTuple

import psutil

from pmtool.errors import MemoryBudgetError
from pmtool.interface.buffers import Buffers
from pmtool.interface.layout import Layout
from pmtool.models.bundle import Bundle
from pmtool.models.hyperparameters import LEVELS, Hyperparameters
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.pairs import PairGroup
from pmtool.sampling.windows import alike_windows, balanced, padded_size, pixels_of_windows
from pmtool.system.limits import free_memory, total_memory
from pmtool.system.units import amount

DEFAULT_WINDOW = 272
"""Four of these cover 512x512. Edges are kept as well as with the paper's 64, in a third of the
time: see benchmarks/results/cpu-2-cores-amx.json."""
MOST_LANES = 8
"""Number of lanes that the CPU's pixel loop takes together; more lanes need more memory."""
GPU_WINDOW, MOST_GPU_LANES = 64, 4096
"""The paper's windows have the shortest chain of dependent steps; not yet measured on a GPU."""
GPU_SHARE = 0.6
"""Share of a GPU's free memory for the buffers; the engine computes in the rest."""
SCRATCH_LANES, LANE_SHARE = 5.2, 1.2
"""Memory of a worker for running graphs, and for each of its lanes including copies to and from it,
in units of a lane's buffers; fitted to peaks with ONNX Runtime, of which
tests/resampling/test_end_to_end.py checks one. OpenVINO takes less."""
COMPILED_BYTES = {"openvino": 90 << 20}
"""Memory of the graphs that an engine compiles for each worker, and of the engine itself, in bytes,
where it is not in `SCRATCH_LANES` and `GRAPHS_BYTES`."""
GRAPHS_BYTES, WEIGHT_COPIES = 40 << 20, 2
"""Memory of a model's loaded graphs in bytes, and copies of its weights that they hold."""
LAYER_OPERATIONS, TARGET_LAYER_OPERATIONS, ENCODER_OPERATIONS = 1200, 305, 283
"""Operations of one forward pass, per pixel and squared number of channels: of a gated layer of
both stacks with all slices, of one with the target alone, and of the encoder and its shares."""
WITHOUT_LOOPS = 6.0
"""Factor by which a slice takes longer if pixels and rows have no compiled loops; a guess, used
only to estimate times."""
OPERATIONS_PER_SECOND, GPU_OPERATIONS_PER_SECOND = 40e9, 10e12
"""Speed that a core or a GPU reaches over a whole job; a guess, used only to estimate times."""


class Plan(NamedTuple):
    """How a job runs. Only ``shape`` and ``window`` influence the result.

    Attributes
    ----------
    shape, window
        Height and width of a padded slice and of a window.
    batch
        Number of windows that a worker generates at once.
    workers
        Number of workers: groups of CPU threads, or GPUs.
    threads
        Number of CPU threads of all workers.
    memory
        Memory of the process or, if the model runs on GPUs, of each GPU, in bytes.
    seconds_per_slice
        Time of a slice; a guess.
    """

    shape: tuple[int, int]
    window: tuple[int, int]
    batch: int
    workers: int
    threads: int
    memory: int
    seconds_per_slice: float

    def threads_of(self, worker: int) -> int:
        """Number of threads of a worker; the first ones take what remains of an even division."""
        share, remainder = divmod(self.threads, self.workers)
        return max(1, share + (worker < remainder))


def make_plan(
    bundle: Bundle,
    options: SamplerOptions,
    shape: tuple[int, int],
    pairs: int,
    backend: str = "onnxruntime-cpu",
) -> Plan:
    """Divide the generation of ``pairs`` slices of ``shape`` among threads and memory.

    There are as many workers as have memory for two lanes each, unless fewer lanes are used, and at
    least one. The model counts as not loaded yet; it is loaded twice if some workers have a thread
    more than others.

    Raises
    ------
    MemoryBudgetError
        If not even a single window fits.
    """
    layout, threads = Layout(bundle.hyperparameters), options.thread_count
    padded, window = _window(options, shape, DEFAULT_WINDOW)
    seconds = _operations(layout, padded, window) / (threads * OPERATIONS_PER_SECOND)
    used = psutil.Process().memory_info().rss
    budget = min(options.memory or total_memory() // 2, used + free_memory())
    compiled = COMPILED_BYTES.get(backend, 0)
    model = GRAPHS_BYTES + WEIGHT_COPIES * bundle.weights.stat().st_size + compiled
    buffers = Buffers.size(layout, *window, 1)
    scratch, lane = int(SCRATCH_LANES * buffers) + compiled, int(LANE_SHARE * buffers)
    for workers in range(min(threads, pairs), 0, -1):
        limit = min(options.batch or MOST_LANES, _most_at_once(padded, window, pairs, workers))
        resident = used + (2 if threads % workers else 1) * model
        batch = min(limit, ((budget - resident) // workers - scratch) // lane)
        if batch >= (1 if workers == 1 else min(2, limit)):
            memory = resident + workers * (scratch + batch * lane)
            return Plan(padded, window, batch, workers, threads, memory, seconds)
    needed, held = (amount(size) for size in (used + model + scratch + lane, budget))
    raise MemoryBudgetError(
        f"a window of {window[0]}x{window[1]} pixels needs {needed} of memory and {held} may be "
        "used: allow more with --memory or take a smaller --window"
    )


def make_gpu_plan(
    layout: Layout,
    options: SamplerOptions,
    shape: tuple[int, int],
    pairs: int,
    gpus: int,
    free: int,
) -> Plan:
    """Divide the generation of ``pairs`` slices among GPUs with ``free`` bytes each.

    Smaller batches share the memory of the largest. A GPU also keeps the slices of as many pairs
    as a batch has windows, or of all its pairs if they are fewer.
    """
    padded, window = _window(options, shape, GPU_WINDOW)
    workers, threads = min(gpus, pairs), options.thread_count
    lane, slices = Buffers.size(layout, *window, 1), PairGroup.size(layout.hyperparameters, *padded)
    limit = min(options.batch or MOST_GPU_LANES, _most_at_once(padded, window, pairs, workers))
    budget, own = int(GPU_SHARE * free), -(-pairs // workers)
    most = max(budget // (lane + slices), (budget - own * slices) // lane)
    batch = min(limit, max(1, most))
    memory = batch * lane + min(batch, own) * slices
    seconds = _operations(layout, padded, window) / (workers * GPU_OPERATIONS_PER_SECOND)
    return Plan(padded, window, batch, workers, threads, memory, seconds)


def _most_at_once(shape: tuple[int, int], window: tuple[int, int], pairs: int, workers: int) -> int:
    """Largest number of windows of a worker's pairs that can be generated at once."""
    return max(map(len, alike_windows(shape, window))) * -(-pairs // workers)


def _operations(layout: Layout, shape: tuple[int, int], window: tuple[int, int]) -> float:
    """Number of operations to generate a slice in windows."""
    return operations(layout.hyperparameters, pixels_of_windows(shape, window))


def operations(hyperparameters: Hyperparameters, pixels: int) -> float:
    """Number of operations of one forward pass of the network on a number of pixels."""
    gated = Layout(hyperparameters).gated
    layers = sum(gated(level) / 4.0**level for level in range(LEVELS))
    layer = TARGET_LAYER_OPERATIONS if hyperparameters.encoder else LAYER_OPERATIONS
    encoder = ENCODER_OPERATIONS * hyperparameters.encoder**2
    return pixels * (layers * layer * hyperparameters.channels**2 + encoder)


def _window(
    options: SamplerOptions, shape: tuple[int, int], usual: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of a padded slice and of a window."""
    padded = padded_size(shape[0]), padded_size(shape[1])
    if options.window == "full":
        window = padded
    elif options.window is None:
        window = balanced(padded[0], usual), balanced(padded[1], usual)
    else:
        window = min(options.window, padded[0]), min(options.window, padded[1])
    return padded, window
