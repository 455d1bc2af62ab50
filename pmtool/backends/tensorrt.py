"""TensorRT on an NVIDIA GPU: engines for windows and rows, pmtool's own kernel for the pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from pmtool.backends.loops import gpu_pixels
from pmtool.choices import Precision
from pmtool.errors import MemoryBudgetError, ModelError, UsageError, is_memory_shortage
from pmtool.export.profiles import WINDOWS_AT_ONCE
from pmtool.export.tensorrt import context_options
from pmtool.interface.graph_names import is_pixel_graph
from pmtool.interface.protocol import Array, Arrays, Memory, Program, address
from pmtool.kernels.launch import PixelKernel
from pmtool.models.bundle import Bundle
from pmtool.system.devices import find_gpu, gpu_index
from pmtool.system.extras import require

PACKAGES = ("onnx", "onnxruntime", "pycuda")
ALIGNMENT = 256
"""Alignment of addresses that TensorRT requires, in bytes."""
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class TensorRTBackend:
    """The engines of a bundle on a GPU.

    Parameters
    ----------
    engines
        The engines, a `pmtool.export.engines.Engines` for the GPU of ``memory``.
    memory
        Memory of the GPU, with the stream for all work.
    device
        Name of the GPU, ``cuda:N``.
    loops
        pmtool's own kernel, used instead of an engine that runs once for every four pixels.
    """

    name = "tensorrt"
    windows_per_call = WINDOWS_AT_ONCE
    keeps_programs = True

    def __init__(
        self, engines: Any, memory: Any, device: str, loops: PixelKernel | None = None
    ) -> None:
        self.engines, self.memory, self.device, self.loops = engines, memory, device, loops
        self.precision: Precision = engines.target.precision
        with memory.device.active():
            self.runtime = engines.trt.Runtime(engines.log)
        self.scratch = Scratch(memory)
        self._loaded: dict[str, GraphEngine] = {}

    def bind(self, graph: str, arrays: Arrays) -> Program:
        """See `Backend.bind`.

        Raises
        ------
        UsageError, ModelError
            If an engine cannot be built or loaded, or does not fit these arrays.
        MemoryBudgetError
            If the GPU has too little memory for the engine, or the engine was built for fewer or
            smaller windows.
        """
        if self.loops is not None and self.loops.covers(graph):
            return self.loops.bind(graph, arrays)
        if graph == "window":
            return self._windows(arrays)
        if is_pixel_graph(graph):
            return self._steps(graph, arrays)
        return self._program(graph, arrays)

    def _program(self, graph: str, arrays: Arrays) -> EngineProgram:
        return EngineProgram(self._engine(graph), arrays)

    def _engine(self, graph: str) -> GraphEngine:
        if graph not in self._loaded:
            with self.memory.device.active():
                self._loaded[graph] = GraphEngine.load(
                    graph, self.engines, self.runtime, self.memory, self.scratch
                )
        return self._loaded[graph]

    def _windows(self, arrays: Arrays) -> Program:
        """Bind the window graph, with as many windows of this size per call as the engine takes."""
        count, *sizes = arrays["above"].shape
        most = self._engine("window").most_windows(sizes)
        parts = [
            {name: array[first : first + most] for name, array in arrays.items()}
            for first in range(0, count, most)
        ]
        return InTurn([self._program("window", part) for part in parts])

    def _steps(self, graph: str, arrays: Arrays) -> Program:
        """Bind the pixel graph's engine to one group of columns after the other."""
        states = {name: array for name, array in arrays.items() if len(array.shape) == 2}
        columns = {name: array for name, array in arrays.items() if name not in states}
        spare = [{n: self.memory.zeros(*a.shape) for n, a in states.items()} for _ in range(2)]
        programs = []
        for group in range(len(columns["tails"])):
            bound = {name: array[group] for name, array in columns.items()}
            bound |= spare[group % 2] if group else states
            bound |= {f"{name}_next": array for name, array in spare[1 - group % 2].items()}
            programs.append(self._program(graph, bound))
        return InTurn(programs)


@dataclass
class InTurn:
    """Programs that run one after the other."""

    programs: Sequence[Program]

    def run(self) -> None:
        """See `Program.run`."""
        for program in self.programs:
            program.run()


class Scratch:
    """Memory that engines need while they run; they can share it because they run in turn."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.size = memory, 0
        self._array: Array = None
        self._outputs = WeakValueDictionary[tuple[str, tuple[int, ...]], Any]()

    def reserve(self, size: int) -> None:
        """Provide at least ``size`` bytes; raises `MemoryBudgetError`."""
        if size > self.size:
            self.memory.wait()  # the old memory may be in use
            self._array, self.size = None, 0  # freed before the new memory is taken
            self._array = self.memory.zeros(-(-size // 4))
            self.size = size

    def output(self, name: str, shape: tuple[int, ...]) -> Array:
        """An array for an output that is copied, if it is wanted, before another engine runs."""
        array = self._outputs.get((name, shape))
        if array is None:
            array = self._outputs[name, shape] = self.memory.zeros(*shape)
        return array

    def place(self) -> tuple[int, int]:
        """Address of the memory and its size in bytes."""
        return address(self._array), self.size


class GraphEngine:
    """A loaded engine and the names of its inputs and outputs.

    Parameters
    ----------
    graph
        Name of the graph.
    engine
        The engine as TensorRT has loaded it.
    engines
        The engines of the bundle, a `pmtool.export.engines.Engines`.
    memory, scratch
        Memory and scratch memory of the backend.
    """

    def __init__(
        self, graph: str, engine: Any, engines: Any, memory: Any, scratch: Scratch
    ) -> None:
        self.graph, self.engine, self.engines = graph, engine, engines
        self.memory, self.scratch = memory, scratch
        self.inputs, self.outputs = self._names("INPUT"), self._names("OUTPUT")
        self._contexts: dict[Shapes, EngineContext] = {}

    @classmethod
    def load(
        cls, graph: str, engines: Any, runtime: Any, memory: Any, scratch: Scratch
    ) -> GraphEngine:
        """Load an engine; raises `UsageError` or `MemoryBudgetError` if the GPU refuses it."""
        engines.log.errors.clear()
        engine = runtime.deserialize_cuda_engine(engines.engine(graph))
        if engine is None:
            raise failure(engines, f"the engine {graph} cannot be loaded")
        return cls(graph, engine, engines, memory, scratch)

    def context(self, shapes: Mapping[str, tuple[int, ...]]) -> EngineContext:
        """Context for inputs of these shapes; TensorRT-RTX compiles kernels for each context."""
        key = tuple(sorted(shapes.items()))
        if key not in self._contexts:
            self._contexts[key] = EngineContext(self, shapes)
        return self._contexts[key]

    def profile(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """Index of the first profile that takes these shapes; raises `MemoryBudgetError`."""
        for number in range(self.engine.num_optimization_profiles):
            if all(self._takes(name, shape, number) for name, shape in shapes.items()):
                return number
        raise MemoryBudgetError(
            f"the engine {self.graph} was not built for so many windows, or for such large ones: "
            "give a smaller --batch or --window, or build it for more by pmtool export --tensorrt "
            "--max-windows"
        )

    def most_windows(self, sizes: Sequence[int]) -> int:
        """Number of windows of a shape ``(1, H, W)`` that the window graph takes at once."""
        number = self.profile({"above": (1, *sizes)})
        return int(self.engine.get_tensor_profile_shape("above", number)[2][0])

    def _names(self, mode: str) -> list[str]:
        """Names of the engine's tensors that are an ``INPUT`` or an ``OUTPUT``."""
        io_mode = getattr(self.engines.trt.TensorIOMode, mode)
        names = (self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors))
        return [name for name in names if self.engine.get_tensor_mode(name) == io_mode]

    def _takes(self, name: str, shape: Sequence[int], number: int) -> bool:
        least, _, most = self.engine.get_tensor_profile_shape(name, number)
        return all(a <= size <= b for a, size, b in zip(least, shape, most, strict=True))


class EngineContext:
    """An engine prepared for inputs of certain shapes; programs use it in turn.

    It outlives the programs, and keeps none of their arrays in memory.
    """

    def __init__(self, engine: GraphEngine, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.graph, self.engines, self.scratch = engine.graph, engine.engines, engine.scratch
        self.stream = engine.memory.device.stream.handle
        self.engines.log.errors.clear()
        number = engine.profile(shapes)
        options = context_options(self.engines.trt, engine.engine)
        self.context = engine.engine.create_execution_context(options)
        if self.context is None:
            raise failure(self.engines, f"the engine {self.graph} cannot be started")
        self._check(self.context.set_optimization_profile_async(number, self.stream))
        for name, shape in shapes.items():
            self._check(self.context.set_input_shape(name, shape))
        self._needed = max(1, self.context.update_device_memory_size_for_shapes())
        self.scratch.reserve(self._needed)
        self._places: Mapping[str, int] = {}
        self._scratch = (0, 0)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an output."""
        return tuple(self.context.get_tensor_shape(name))

    def run(self, places: Mapping[str, int]) -> None:
        """Start the engine on arrays at these addresses."""
        if self._places != places:
            for name, place in places.items():
                self._check(self.context.set_tensor_address(name, place))
            self._places = places
        self.scratch.reserve(self._needed)  # again, if memory ran out for a larger one
        scratch = self.scratch.place()
        if self._scratch != scratch:
            self._scratch = scratch
            self.context.set_device_memory(*scratch)
        self.engines.log.errors.clear()
        self._check(self.context.execute_async_v3(self.stream))

    def _check(self, done: bool) -> None:
        if not done:
            raise failure(self.engines, f"the engine {self.graph} failed")


class EngineProgram:
    """An engine bound to arrays.

    An engine may write an output before it has read all of an input. If the two share an array, the
    output therefore gets another array, see `Scratch.output`, which is copied when the engine is
    done. Arrays that are not aligned as TensorRT requires are copied too.

    Attributes
    ----------
    placed
        The arrays that the engine reads and writes, by name.
    """

    def __init__(self, engine: GraphEngine, arrays: Arrays) -> None:
        self.engine, self.memory = engine, engine.memory
        unknown = arrays.keys() - {*engine.inputs, *engine.outputs}
        if unknown or not arrays.keys() >= set(engine.inputs):
            names = ", ".join(sorted(unknown or set(engine.inputs) - arrays.keys()))
            raise ModelError(
                f"the model's graph {engine.graph} is not ours ({names}): export it again"
            )
        shapes = {name: tuple(arrays[name].shape) for name in engine.inputs}
        with self.memory.device.active():
            self.context = engine.context(shapes)
        self.placed: dict[str, Array] = {}
        self.before: list[tuple[Array, Array]] = []
        self.after: list[tuple[Array, Array]] = []
        for name in engine.inputs:
            self._place_input(name, arrays[name])
        read = {address(arrays[name]) for name in engine.inputs}
        for name in engine.outputs:
            self._place_output(name, arrays.get(name), read)
        self._places = {name: address(array) for name, array in self.placed.items()}

    def run(self) -> None:
        """See `Program.run`; raises `MemoryBudgetError` and `UsageError`."""
        for target, source in self.before:
            self.memory.copy(target, source)
        with self.memory.device.active():
            self.context.run(self._places)
        for target, source in self.after:
            self.memory.copy(target, source)

    def _place_input(self, name: str, array: Array) -> None:
        self.placed[name] = array
        if address(array) % ALIGNMENT:
            self.placed[name] = self.memory.zeros(*array.shape)
            self.before.append((self.placed[name], array))

    def _place_output(self, name: str, array: Array, read: set[int]) -> None:
        """Give an output an array, even if the output is not wanted."""
        if array is not None and address(array) not in read and not address(array) % ALIGNMENT:
            self.placed[name] = array
            return
        self.placed[name] = self.engine.scratch.output(name, self.context.shape(name))
        if array is not None:
            self.after.append((array, self.placed[name]))


def failure(engines: Any, what: str) -> Exception:
    """Error with the reason that TensorRT has logged."""
    errors = engines.log.errors
    if any(is_memory_shortage(RuntimeError(error)) for error in errors):
        return MemoryBudgetError(f"the GPU is out of memory: {what}; give a smaller --batch")
    reason = " ".join(errors[-1].split()) if errors else "no reason given"
    return UsageError(f"{what} ({reason}); use another --backend")


def check(devices: tuple[str, ...], precision: Precision) -> None:
    """Raise `UsageError`, with the remedy, unless TensorRT can run on the devices."""
    from pmtool.export.tensorrt import check_driver, check_made_for, is_rtx, tensorrt

    gpus = [find_gpu(device) for device in devices]
    trt = tensorrt()
    require("TensorRT", PACKAGES, "pmtool[rtx]" if is_rtx(trt) else "pmtool[gpu]")
    for gpu in gpus:
        check_made_for(trt, gpu)
        check_driver(trt, gpu)


def load(
    bundle: Bundle,
    device: str,
    precision: Precision,
    threads: int,
    max_windows: int | None = None,
) -> TensorRTBackend:
    """Load the engines of a bundle, build missing ones, and check their accuracy.

    Parameters
    ----------
    bundle
        The model.
    device
        ``cuda:N``.
    precision
        Precision of the engines.
    threads
        Number of CPU threads for the check.
    max_windows
        See `pmtool.export.engines.Engines`.

    Raises
    ------
    UsageError
        If an engine cannot be built here, or differs from ONNX Runtime.
    """
    from pmtool.backends.accuracy import check_engines
    from pmtool.export.engines import Engines
    from pmtool.kernels.cuda import CudaDevice, CudaMemory

    memory = CudaMemory(CudaDevice(gpu_index(device)))
    engines = Engines(bundle, find_gpu(device), precision, max_windows)
    loops = gpu_pixels(bundle, precision, memory.device)
    backend = TensorRTBackend(engines, memory, device, loops)
    check_engines(backend, threads)
    return backend
