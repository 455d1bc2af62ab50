"""The graphs in PyTorch: the reference for the other engines, and also an engine for GPUs."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from pmtool.arrays import Float32s
from pmtool.backends.loops import Loops, cpu_loops
from pmtool.backends.torch_uniforms import draw_tails
from pmtool.choices import Precision
from pmtool.errors import OUT_OF_GPU_MEMORY, MemoryBudgetError, UsageError, is_memory_shortage
from pmtool.graphs.horizontal import OutputWeights
from pmtool.graphs.pixel import PixelGraph
from pmtool.graphs.suite import Graph, graph_suite
from pmtool.graphs.window import WindowGraph
from pmtool.interface.graph_names import GRAPHS
from pmtool.interface.protocol import Arrays, Program
from pmtool.models.bundle import Bundle
from pmtool.network import PixelMiner
from pmtool.network.encoder import Midpoint
from pmtool.network.inference import load_network
from pmtool.pixels.uniforms import Places
from pmtool.system.devices import CPU

PRESUMED = ("unable to find an engine to execute this computation", "previous error during capture")
"""Errors of cuDNN and of captures behind which there is usually a lack of memory."""


class TorchBackend:
    """PyTorch on a device.

    Parameters
    ----------
    network
        The network.
    device
        ``cpu`` or ``cuda:N``.
    precision
        Type of the factors of matrix products and convolutions.
    loops
        pmtool's own loops, used instead of PyTorch.
    """

    name = "torch"

    def __init__(
        self,
        network: PixelMiner,
        device: str = "cpu",
        precision: Precision = "float32",
        loops: Loops | None = None,
    ) -> None:
        self.device, self.precision, self.loops = device, precision, loops
        self.keeps_programs = device != CPU
        self.windows_per_call = 32 if self.keeps_programs else 1
        self.memory = TorchMemory(torch.device(device))
        if self.keeps_programs:  # float32 means float32; both settings hold for the whole process
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.capturing = Capturing(device) if self.keeps_programs else None
        own = (name for name in GRAPHS if loops is None or not loops.covers(name))
        self.graphs = graph_suite(network, own)
        for graph in self.graphs.values():
            graph.to(device)
            if isinstance(graph, WindowGraph):
                _keep_exact(graph.network, self.memory.device.type)
                convert_conv2d_weight_memory_format(graph.network, torch.channels_last)
            else:
                _lower_matrices(graph, getattr(torch, precision))

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`."""
        if self.loops is not None and self.loops.covers(graph):
            return self.loops.bind(graph, {name: x.numpy() for name, x in arrays.items()})
        if graph == "window":
            return TorchProgram(self.graphs[graph], dict(arrays), self._autocast)
        program = TorchProgram(self.graphs[graph], dict(arrays), nullcontext)
        return CapturedProgram(program, self.capturing) if self.capturing else program

    def _autocast(self) -> AbstractContextManager[Any]:
        """Context for the window graph, whose layers have float32 weights."""
        dtype = getattr(torch, self.precision)
        return torch.autocast(self.memory.device.type, dtype, enabled=dtype != torch.float32)


class TorchMemory:
    """See `Memory`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def zeros(self, *shape: int) -> Tensor:
        with _shortages():
            return torch.zeros(shape, device=self.device)

    def clear(self, array: Tensor) -> None:
        array.zero_()

    def copy(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source)

    def upload(self, target: Tensor, values: Float32s) -> None:
        target.copy_(torch.from_numpy(values))

    def download(self, array: Tensor) -> Float32s:
        copied: Float32s = array.to("cpu", copy=True).numpy()
        return copied

    def tails(self, target: Tensor, seed: int, places: Places) -> None:
        draw_tails(target, seed, places)

    def corners(self, values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def load_windows(self, slices: Tensor, corners: Tensor, target: Tensor) -> None:
        _, _, height, width = target.shape
        windows = slices.unfold(1, height, 1).unfold(2, width, 1)
        with _shortages():
            target[:, 0] = windows[corners.unbind(1)]

    def load_pixels(self, slices: Tensor, corners: Tensor, row: int, target: Tensor) -> None:
        slice_, top, left = corners.unbind(1)
        pixels = slices.unfold(2, len(target), 1)[slice_, top + row, left]
        target[:, : len(corners)] = pixels.T

    def store_pixels(
        self, slices: Tensor, corners: Tensor, row: int, column: int, pixels: Tensor
    ) -> None:
        slice_, top, left = corners.unbind(1)
        columns = left + column + torch.arange(len(pixels), device=self.device)[:, None]
        slices[slice_, top + row, columns] = pixels[:, : len(corners)]

    def load_row(self, plane: Tensor, row: int, target: Tensor) -> None:
        target.copy_(plane[:, row].transpose(0, 1))

    def standardise(self, pixels: Tensor, mixture: Tensor, residuals: Tensor) -> None:
        midpoint = Midpoint(mixture[..., -2], mixture[..., -1])
        with _shortages():
            residuals.copy_(midpoint.residual(pixels))

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()


class TorchProgram:
    """A graph and the tensors that it reads and writes.

    Parameters
    ----------
    graph
        The graph.
    arrays
        Tensors by name.
    context
        Creates the context in which the graph runs.
    """

    def __init__(
        self,
        graph: Graph,
        arrays: dict[str, Tensor],
        context: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.graph, self.arrays, self.context = graph, arrays, context

    @torch.inference_mode()
    def run(self) -> None:
        """See `Program.run`; raises `MemoryBudgetError`."""
        with _shortages(), self.context():
            if isinstance(self.graph, PixelGraph):
                self._scan(self.graph)
            else:
                self._once(self.graph)

    def _once(self, graph: Graph) -> None:
        results = graph(*(self.arrays[name] for name in graph.inputs))
        for name, result in zip(graph.outputs, results, strict=True):
            if name in self.arrays:
                self.arrays[name].copy_(result)

    def _scan(self, graph: PixelGraph) -> None:
        states = [self.arrays[name] for name in graph.states]
        columns = [self.arrays[name] for name in graph.scanned]
        for group in range(len(columns[0])):
            outputs = graph(*states, *(column[group] for column in columns))
            states = list(outputs[: len(states)])
            for name, result in zip(graph.results, outputs[len(states) :], strict=True):
                if name in self.arrays:
                    self.arrays[name][group].copy_(result)


class Capturing:
    """The memory pool and the stream that all captures on a GPU share.

    When a program ends, everything that other programs need from it is in its arrays, so that all
    programs can share one pool.
    """

    one_at_a_time = threading.Lock()
    """Lock for the whole process, because PyTorch captures one CUDA graph at a time."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.first: torch.cuda.CUDAGraph | None = None
        with torch.cuda.device(self.device):
            self.stream = torch.cuda.Stream()

    def capture(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """Capture what ``work`` starts on the GPU, to be replayed; nothing is executed yet.

        ``torch.cuda.graph`` does the same, but would replace an error of ``work`` by one about the
        capture, and leave the thread in the stream of the captures.
        """
        graph = torch.cuda.CUDAGraph()
        with self.one_at_a_time, torch.cuda.stream(self.stream):
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            # A pool without any graph cannot be used again.
            pool = self.first.pool() if self.first else torch.cuda.graph_pool_handle()
            graph.capture_begin(pool, capture_error_mode="thread_local")
            try:
                work()
            except BaseException:
                with suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        self.first = self.first or graph
        return graph


class CapturedProgram:
    """A program as a CUDA graph: a row's thousands of small kernels are launched as one.

    The first run executes the program directly and warms up what the capture relies on. The second
    run captures the program and replays it; later runs only replay it.
    """

    def __init__(self, program: TorchProgram, capturing: Capturing) -> None:
        self.program, self.capturing, self.warm = program, capturing, False
        self.captured: torch.cuda.CUDAGraph | None = None

    def run(self) -> None:
        """See `Program.run`."""
        with torch.cuda.device(self.capturing.device), _shortages():
            if not self.warm:
                self.program.run()
                self.warm = True
                return
            if self.captured is None:
                self.captured = self.capturing.capture(self.program.run)
            self.captured.replay()


def check(devices: tuple[str, ...], precision: Precision) -> None:
    """Raise `UsageError` or `MemoryBudgetError` unless PyTorch can compute on the devices.

    Warns
    -----
    UserWarning
        If a CPU has no instructions for bfloat16.
    """
    if precision == "bfloat16" and emulates_bfloat16(devices[0]):
        warnings.warn(
            "this CPU has no instructions for bfloat16, in which slices take many times as long: "
            "leave --precision out",
            stacklevel=2,
        )
    for device in devices:
        try:
            (torch.ones(1, device=device) + 1).item()
        except (RuntimeError, AssertionError) as error:
            if is_memory_shortage(error):
                raise MemoryBudgetError(OUT_OF_GPU_MEMORY) from error
            raise UsageError(
                f"PyTorch cannot use {device}: install a build of PyTorch for CUDA and this GPU, "
                "and a driver that is recent enough for it, or use --device cpu"
            ) from error


def emulates_bfloat16(device: str) -> bool:
    """Whether a device emulates bfloat16 in float32, which is far slower than float32 itself."""
    if device != CPU or not torch.backends.mkldnn.is_available():
        return False
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def load(bundle: Bundle, device: str, precision: Precision, threads: int) -> TorchBackend:
    """Load the bundle's network on a device; raises `ModelError`."""
    loops = cpu_loops(bundle) if device == CPU else None
    return TorchBackend(load_network(bundle), device, precision, loops)


class _Exact(nn.Module):
    """A module that computes in float32, even within a context of lower precision."""

    def __init__(self, module: nn.Module, device: str) -> None:
        super().__init__()
        self.module, self.device = module, device

    def forward(self, *tensors: Tensor) -> Any:
        with torch.autocast(self.device, enabled=False):
            return self.module(*(tensor.float() for tensor in tensors))


def _keep_exact(network: PixelMiner, device: str) -> None:
    """Keep the encoder and the output layer, which give midpoint and mixture, in float32.

    Grey levels are finer than a half type can resolve.
    """
    for name, module in list(network.named_children()):
        if name in ("encoder", "output"):
            network.add_module(name, _Exact(module, device))


def _lower_matrices(graph: Graph, dtype: torch.dtype) -> None:
    """Convert the matrices of a graph to a type, which their products then use.

    See `ops.product`. The last layer stays as it is, for the reason given in `_keep_exact`.
    """
    for module in graph.modules():
        if isinstance(module, OutputWeights):
            continue
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.ndim == 2 and min(buffer.shape) > 1:
                module.register_buffer(name, buffer.to(dtype))


@contextmanager
def _shortages() -> Iterator[None]:
    """Convert PyTorch's errors about lack of memory into `MemoryBudgetError`."""
    try:
        yield
    except RuntimeError as error:
        if not is_memory_shortage(error) and not any(words in str(error) for words in PRESUMED):
            raise
        raise MemoryBudgetError("out of memory; give a smaller --batch or --window") from error
