"""ONNX Runtime on an NVIDIA GPU, with pmtool's own kernel for the pixels."""

from __future__ import annotations

import contextlib
import io
from types import ModuleType
from typing import Any

import numpy as np

from pmtool.backends.loops import Loops, gpu_pixels
from pmtool.backends.onnxruntime import OnnxRuntimeBackend, runtime
from pmtool.choices import Precision
from pmtool.errors import (
    OUT_OF_GPU_MEMORY,
    MemoryBudgetError,
    PmtoolError,
    UsageError,
)
from pmtool.interface.protocol import Array, address
from pmtool.models.bundle import Bundle
from pmtool.system.devices import find_gpu, gpu_index
from pmtool.system.extras import require

PROVIDER = "CUDAExecutionProvider"
PACKAGES = ("onnx", "pycuda")


class OnnxRuntimeCudaBackend(OnnxRuntimeBackend):
    """The bundle's graphs in ONNX Runtime on a GPU, in the stream of pmtool's own kernels.

    Parameters
    ----------
    memory
        Memory of the GPU, with the stream for all work.
    loops
        Loop over a row's pixels, used instead of ONNX Runtime, which runs the pixel graph's loop as
        a multitude of small kernels.

    Raises
    ------
    UsageError
        If ONNX Runtime is not installed.
    """

    name = "onnxruntime-cuda"
    windows_per_call = 16
    keeps_programs = True

    def __init__(
        self,
        bundle: Bundle,
        memory: Any,
        device: str,
        precision: Precision,
        threads: int = 1,
        loops: Loops | None = None,
    ) -> None:
        super().__init__(bundle, threads, loops)
        self.memory, self.device, self.precision = memory, device, precision

    def _load(self, graph: str) -> Any:
        """Load a graph; raises `UsageError` if ONNX Runtime lacks CUDA and would use the CPU.

        Even in a session on the GPU, ONNX Runtime may run individual nodes on the CPU.
        """
        session = super()._load(graph)
        if session.get_providers()[0] != PROVIDER:
            raise UsageError(
                f"ONNX Runtime cannot use {self.device} and would run on the CPU: install "
                "the CUDA and cuDNN that it needs, or use another --backend"
            )
        return session

    def _model(self, graph: str) -> str | bytes:
        if self.precision == "float32":
            return super()._model(graph)
        from pmtool.export.precision import serialised

        return serialised(self.bundle.graph(graph), self.precision)

    def _providers(self) -> list[Any]:
        stream = str(self.memory.device.stream.handle)
        options = {
            "device_id": gpu_index(self.device),
            "user_compute_stream": stream,
            "use_tf32": 0,
            "cudnn_conv_algo_search": "HEURISTIC",  # the default tries all for every new shape
            "arena_extend_strategy": "kSameAsRequested",  # the default takes powers of two
        }
        return [(PROVIDER, options), "CPUExecutionProvider"]

    def run_options(self) -> Any:
        """Options that avoid a wait for the GPU after every graph; the stream keeps the order."""
        options = self.runtime.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return options

    def _refusal(self, graph: str, error: Exception) -> PmtoolError:
        return self.failure(graph, error)

    def failure(self, graph: str, error: Exception) -> PmtoolError:
        """Error that blames the GPU or its libraries, because the graph does run on the CPU."""
        failure = super().failure(graph, error)
        if isinstance(failure, MemoryBudgetError):
            return MemoryBudgetError(OUT_OF_GPU_MEMORY)
        return UsageError(
            f"ONNX Runtime cannot run the graph {graph} in {self.precision} on {self.device}: use "
            "another --precision or --backend"
        )

    def place(self, array: Array) -> tuple[Any, ...]:
        return "cuda", gpu_index(self.device), np.float32, array.shape, address(array)


def check(devices: tuple[str, ...], precision: Precision) -> None:
    """Raise `UsageError`, with the remedy, unless ONNX Runtime can run on the devices."""
    if PROVIDER not in _runtime_for_cuda().get_available_providers():
        raise UsageError(
            "the installed ONNX Runtime is for the CPU alone: pip uninstall onnxruntime and "
            "pip install 'pmtool[gpu]', or use another --backend"
        )
    require("onnxruntime-cuda", PACKAGES, "pmtool[gpu]")
    for device in devices:
        find_gpu(device)


def load(bundle: Bundle, device: str, precision: Precision, threads: int) -> OnnxRuntimeCudaBackend:
    """Load the bundle's graphs on a GPU; raises `UsageError`."""
    from pmtool.kernels.cuda import CudaDevice, CudaMemory

    _runtime_for_cuda()
    memory = CudaMemory(CudaDevice(gpu_index(device)))
    pixels = gpu_pixels(bundle, precision, memory.device)
    return OnnxRuntimeCudaBackend(bundle, memory, device, precision, threads, pixels)


def _runtime_for_cuda() -> ModuleType:
    """Import ONNX Runtime with the libraries of CUDA and cuDNN from wheels or from PyTorch."""
    module = runtime()
    if hasattr(module, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it cannot find
            module.preload_dlls()
    return module
