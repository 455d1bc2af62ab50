"""Building an engine from an ONNX graph with any of TensorRT's packages.

The same code serves TensorRT 10.15 and later, TensorRT 11 and TensorRT-RTX: the network is strongly
typed, so that the precision is determined by the graph's types rather than by builder flags.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from threading import get_ident
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pmtool.errors import MemoryBudgetError, UsageError, is_memory_shortage
from pmtool.export.profiles import Profile, shapes
from pmtool.system.devices import Gpu

if TYPE_CHECKING:
    from onnx import ModelProto

PACKAGES = {"tensorrt": (10, 15), "tensorrt_rtx_bindings": (1, 7)}
"""Packages, each with the oldest version that builds pmtool's graphs."""
DRIVERS = {12: 525, 13: 580}
"""Oldest driver for each version of CUDA, from NVIDIA's table of minor version compatibility."""
NOT_RTX = ("8.0", "9.0", "10.0", "10.3")
"""Compute capabilities of GPUs for data centres, which NVIDIA's support matrices of TensorRT-RTX
leave out."""
_log = logging.getLogger("pmtool")


def tensorrt() -> ModuleType:
    """Import TensorRT, or else TensorRT-RTX; raises `UsageError` if neither can be used."""
    for name, oldest in PACKAGES.items():
        if find_spec(name) is None:
            continue
        try:
            trt = import_module(name)
        except (ImportError, OSError) as error:
            raise UsageError(
                f"{name} is installed but cannot be loaded ({error}): install it again, or use "
                "another --backend"
            ) from error
        if _version(trt) < oldest:
            raise UsageError(
                f"{name} {trt.__version__} is too old: install version "
                f"{'.'.join(map(str, oldest))} or newer, or use another --backend"
            )
        return trt
    raise UsageError(
        "TensorRT is not installed: pip install 'pmtool[gpu]', or 'pmtool[rtx]' for TensorRT-RTX"
    )


def _version(trt: ModuleType) -> tuple[int, ...]:
    """Major and minor version of TensorRT."""
    return tuple(int(number) for number in re.findall(r"\d+", trt.__version__)[:2])


def is_rtx(trt: ModuleType) -> bool:
    """Whether this is TensorRT-RTX, which does no timing and needs no GPU to build."""
    return "rtx" in trt.__name__


def context_options(trt: ModuleType, engine: Any) -> Any:
    """Options of an engine's execution contexts, whose memory the caller provides.

    TensorRT-RTX would by default compile kernels for the shapes in use in the background and change
    to them in the middle of the work. A result would then depend on that moment, and nothing would
    have been compared in the new kernels.
    """
    managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if not is_rtx(trt):
        return managed
    options = engine.create_runtime_config()
    options.set_execution_context_allocation_strategy(managed)
    kernels = trt.DynamicShapesKernelSpecializationStrategy.NONE
    options.dynamic_shapes_kernel_specialization_strategy = kernels
    return options


def check_driver(trt: ModuleType, gpu: Gpu) -> None:
    """Raise `UsageError` if a GPU's driver is too old for TensorRT."""
    needed = DRIVERS.get(_cuda_version(is_rtx(trt)))
    if needed is not None and int(gpu.driver.partition(".")[0]) < needed:
        raise UsageError(
            f"the NVIDIA driver {gpu.driver} is too old for {trt.__name__} {trt.__version__}: "
            f"install version {needed} or newer"
        )


def check_made_for(trt: ModuleType, gpu: Gpu) -> None:
    """Raise `UsageError` if the package is TensorRT-RTX and not made for this GPU."""
    if is_rtx(trt) and gpu.capability in NOT_RTX:
        raise UsageError(
            f"TensorRT-RTX is not made for an {gpu.name}: pip install 'pmtool[gpu]' for TensorRT, "
            "or use another --backend"
        )


def _cuda_version(rtx: bool) -> int:
    """Version of CUDA that the installed package is for; 0 if its name does not give it."""
    name = re.compile(rf"tensorrt{'[-_]rtx' if rtx else ''}[-_]cu(\d+)([-_](bindings|libs))?")
    matches = (name.fullmatch(package.name or "") for package in metadata.distributions())
    return next((int(match[1]) for match in matches if match), 0)


class Build(NamedTuple):
    """A serialised engine, and TensorRT's cache of timings after the build."""

    engine: bytes
    timings: bytes


def build_engine(
    trt: ModuleType,
    name: str,
    model: ModelProto,
    profiles: Sequence[Profile],
    timings: bytes = b"",
) -> Build:
    """Build an engine for the GPU in use.

    Parameters
    ----------
    trt
        Module of TensorRT.
    name
        Name of the graph, for messages.
    model
        The graph.
    profiles
        Sizes to build for.
    timings
        Timings of earlier builds on the same machine; TensorRT-RTX has none.

    Raises
    ------
    UsageError
        If TensorRT does not support the graph.
    MemoryBudgetError
        If there is too little memory for the build.
    """
    log = logger(trt)
    log.errors.clear()
    builder = trt.Builder(log)
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(strongly_typed)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model.SerializeToString()):
        raise _unsupported(trt, name, [_parser_error(parser)])
    config = builder.create_builder_config()
    for sizes in profiles:
        config.add_optimization_profile(_profile(builder, model, sizes))
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; it rounds factors to 10 bits
    cache = None if is_rtx(trt) else config.create_timing_cache(timings)
    if cache is not None:
        config.set_timing_cache(cache, False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _unsupported(trt, name, log.errors or ["the build failed"])
    return Build(bytes(engine), b"" if cache is None else bytes(cache.serialize()))


@cache
def logger(trt: ModuleType) -> Any:
    """Logger for TensorRT that keeps errors and passes the rest on as debug messages.

    There is one for the whole process, because TensorRT keeps using the first one it is given.
    """

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: dict[int, list[str]] = {}

        @property
        def errors(self) -> list[str]:
            """Errors for the calling thread; other threads may use other GPUs."""
            return self._errors.setdefault(get_ident(), [])

        def log(self, severity: Any, message: str) -> None:
            if severity not in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                _log.debug("TensorRT: %s", message)
            elif get_ident() in self._errors:
                self.errors.append(message)
            else:  # a thread of TensorRT's own, which may work for any of them
                for errors in list(self._errors.values()):
                    errors.append(message)

    return Log()


def _profile(builder: Any, model: ModelProto, sizes: Profile) -> Any:
    profile = builder.create_optimization_profile()
    for value in model.graph.input:
        profile.set_shape(value.name, *shapes(value, sizes))
    return profile


def _parser_error(parser: Any) -> str:
    error = parser.get_error(0)
    return f"node {error.node_name()} ({error.node_operator()}): {error.desc()}"


def _unsupported(trt: ModuleType, name: str, errors: Sequence[str]) -> Exception:
    if any(is_memory_shortage(RuntimeError(error)) for error in errors):
        return MemoryBudgetError(
            f"there is no memory to build the engine {name}: end other programs"
        )
    reason = " ".join(errors[-1].split())
    return UsageError(
        f"{trt.__name__} {trt.__version__} cannot build the graph {name}, {reason}; "
        "use --backend onnxruntime-cuda"
    )
