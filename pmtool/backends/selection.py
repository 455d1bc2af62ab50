"""Choosing the engine that runs a model, its devices and its precision."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Literal, NamedTuple, Protocol, get_args

from pmtool.choices import BACKENDS, Precision
from pmtool.errors import UsageError, is_memory_shortage
from pmtool.interface.protocol import Backend
from pmtool.kernels import cpu
from pmtool.models.bundle import Bundle
from pmtool.system.checks import check_choice
from pmtool.system.devices import CPU, find_devices, has_bfloat16
from pmtool.system.extras import require

_log = logging.getLogger("pmtool")
ON_GPU = ("tensorrt", "onnxruntime-cuda", "torch")
ON_CPU = ("onnxruntime-cpu", "openvino", "torch")
"""Names of the engines in order of preference.

On GPUs this is the order of their speed as docs/gpu.md estimates it, because nothing has been
measured there yet. On a CPU, OpenVINO generates slices faster, but begins with a second of
compiling and takes more memory for small windows.
"""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DISTRIBUTIONS = {
    "onnxruntime-cpu": ("onnxruntime", "onnxruntime-gpu"),
    "onnxruntime-cuda": ("onnxruntime-gpu",),
    "openvino": ("openvino", "onnxruntime", "onnxruntime-gpu"),
    "torch": ("torch",),
    "tensorrt": ("tensorrt", "tensorrt-rtx-cu13-libs"),
}
"""Packages that contain an engine; some are alternatives."""
_MODULES = {
    "tensorrt": "tensorrt",
    "torch": "torch",
    "onnxruntime-cuda": "onnxruntime_cuda",
    "openvino": "openvino",
    "onnxruntime-cpu": "onnxruntime",
}


class _Module(Protocol):
    """Module of an engine."""

    def check(self, devices: tuple[str, ...], precision: Precision) -> None:
        """Raise `UsageError`, with the remedy, if the engine cannot run on these devices.

        PyTorch computes a little there, and may raise `MemoryBudgetError`.
        """

    def load(self, bundle: Bundle, device: str, precision: Precision, threads: int) -> Backend:
        """Load the model on a device, for calls that may use ``threads`` threads each."""


class Engine(NamedTuple):
    """An available engine; if there are several devices, they share the slice pairs."""

    backend: str
    devices: tuple[str, ...]
    precision: Precision

    @property
    def pixels(self) -> Literal["kernel", "engine"]:
        """What generates pixels, and rows on a CPU: pmtool's own loops or the engine.

        The two round differently.
        """
        if self.devices != (CPU,):
            return "engine" if self.backend == "torch" else "kernel"
        return "engine" if cpu.library() is None else "kernel"

    def load(self, bundle: Bundle, device: str, threads: int) -> Backend:
        """Load the model on one of the devices; raises `UsageError` and `ModelError`."""
        loaded: Backend = engine_module(self.backend).load(bundle, device, self.precision, threads)
        return loaded

    def in_worker(self, threads: int) -> AbstractContextManager[None]:
        """Context of a thread whose calls of the engine may use ``threads`` threads each.

        ONNX Runtime learns their number when it loads the model; PyTorch is told in every thread.
        """
        if self.backend != "torch" or self.devices != (CPU,):
            return nullcontext()
        from pmtool.backends.torch_threads import torch_threads

        return torch_threads(threads)


def choose_engine(
    backend: str | None = None, device: str = "auto", precision: Precision | None = None
) -> Engine:
    """Return the first of `working_engines`."""
    return next(working_engines(backend, device, precision))


def working_engines(
    backend: str | None, device: str, precision: Precision | None
) -> Iterator[Engine]:
    """Yield the engines that match the request and pass their check, in order of preference.

    The order is that of `ON_GPU` and `ON_CPU`.

    Parameters
    ----------
    backend
        One of `BACKENDS`; any of them if None.
    device
        See `find_devices`.
    precision
        One of `PRECISIONS`. If None: float32 on the CPU and in ONNX Runtime; otherwise bfloat16, or
        float16 on GPUs without bfloat16.

    Raises
    ------
    UsageError
        If there is no such engine.
    MemoryBudgetError
        If a GPU has no memory left.
    """
    if backend is not None:
        check_choice("backend", backend, BACKENDS)
    if precision is not None:
        check_choice("precision", precision, PRECISIONS)
    has_yielded, failures = False, list[UsageError]()
    for devices in _in_turn(backend, device):
        for name in _names_on(devices) if backend is None else (backend,):
            try:
                engine = _checked(name, devices, precision)
            except UsageError as error:
                failures.append(error)
                _log.debug("not %s on %s: %s", name, devices[0], error)
            else:
                has_yielded = True
                yield engine
    if not has_yielded:
        raise failures[0]


def _names_on(devices: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the engines for these devices."""
    return ON_CPU if devices == (CPU,) else ON_GPU


def _checked(backend: str, devices: tuple[str, ...], precision: Precision | None) -> Engine:
    if backend not in _names_on(devices):
        raise UsageError(f"{backend} does not run on {devices[0]}: choose another --device")
    engine = Engine(backend, devices, precision or _usual_precision(backend, devices))
    engine_module(backend).check(devices, engine.precision)
    return engine


def _in_turn(backend: str | None, device: str) -> list[tuple[str, ...]]:
    """Devices to try in turn: ``auto`` falls back to the CPU, an explicit choice does not."""
    if device != "auto":
        return [find_devices(device)]
    if backend is not None and backend not in ON_GPU:
        return [(CPU,)]
    devices = find_devices("auto")
    if backend is None or backend in ON_CPU:
        return [devices] if devices == (CPU,) else [devices, (CPU,)]
    if devices == (CPU,):
        raise UsageError(
            f"the backend {backend} needs an NVIDIA GPU, and this machine has none that can be "
            "used: choose another --backend"
        )
    return [devices]


def _usual_precision(backend: str, devices: tuple[str, ...]) -> Precision:
    if devices == (CPU,) or backend == "onnxruntime-cuda":
        return "float32"
    return "bfloat16" if all(map(has_bfloat16, devices)) else "float16"


def engine_module(backend: str) -> _Module:
    """The module of a backend; raises `UsageError` if its packages are missing."""
    if backend == "torch":
        require("the backend torch", ("torch", "safetensors"), "pmtool[torch]")
    try:
        module: _Module = import_module(f"pmtool.backends.{_MODULES[backend]}")
    except (ImportError, OSError) as error:
        if is_memory_shortage(error):
            raise
        raise UsageError(
            f"the backend {backend} cannot be imported ({error}): install its packages again, or "
            "use another --backend"
        ) from error
    return module
