"""Arrays and kernels on an NVIDIA GPU, through pycuda.

The GPU's context, see `PrimaryContext`, is current only during calls to this module, so that any
thread may call it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from math import prod
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmtool.arrays import Float32s
from pmtool.errors import UsageError
from pmtool.kernels import launch
from pmtool.kernels.compile import SOURCES, architecture, machine_code
from pmtool.kernels.context import primary_context
from pmtool.pixels.uniforms import Places

ITEM = 4


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous float32 array on the device.

    Attributes
    ----------
    pointer
        Address of the first element.
    shape
        Shape, as in NumPy.
    owner
        Object that keeps the memory as long as an array refers to it.
    """

    pointer: int
    shape: tuple[int, ...]
    owner: Any

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Interface through which other libraries read and write the same memory."""
        place = (self.pointer, False)
        return {"shape": self.shape, "typestr": "<f4", "data": place, "strides": None, "version": 3}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> DeviceArray:
        """Return a view of one element or of neighbouring elements along the first axis."""
        rest = self.shape[1:]
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise IndexError("views on the device are of neighbouring elements")
            shape: tuple[int, ...] = (max(0, stop - start), *rest)
        else:
            start, shape = range(len(self))[index], rest
        return DeviceArray(self.pointer + ITEM * start * prod(rest), shape, self.owner)

    def reshape(self, shape: tuple[int, ...]) -> DeviceArray:
        """Return a view with another shape."""
        if prod(shape) != self.size:
            raise ValueError(f"{self.shape} cannot become {shape}")
        return DeviceArray(self.pointer, shape, self.owner)


class CudaDevice:
    """A GPU with the compiled kernels and one stream for all work on it: a `Launcher`.

    Parameters
    ----------
    index
        Index of the GPU.

    Raises
    ------
    UsageError
        If pycuda, a driver, the GPU or a compiler is missing.
    MemoryBudgetError
        If the GPU has no memory left.
    """

    def __init__(self, index: int = 0) -> None:
        self.driver = _driver()
        count = self.driver.Device.count()
        if not 0 <= index < count:
            raise UsageError(
                f"there is no GPU {index}, only {count} of them: give another --device"
            )
        device = self.driver.Device(index)
        self.architecture = architecture(*device.compute_capability())
        attribute = self.driver.device_attribute
        self.multiprocessors = int(device.get_attribute(attribute.MULTIPROCESSOR_COUNT))
        limit = attribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        self.shared_limit = int(device.get_attribute(limit))
        self.functions: dict[str, Any] = {}
        codes = [machine_code(source, self.architecture) for source in SOURCES]
        self.context = primary_context(self.driver, index)
        with self.active():
            self.stream = self.driver.Stream()
            self.modules = [self._loaded(code) for code in codes]

    def _loaded(self, code: bytes) -> Any:
        try:
            return self.driver.module_from_buffer(code)
        except (self.driver.LogicError, self.driver.RuntimeError) as error:
            raise UsageError(
                f"the NVIDIA driver cannot load the kernels ({error}): install one that is as "
                "recent as the CUDA compiler, or use --device cpu"
            ) from error

    def __del__(self) -> None:
        owned = [self.__dict__.pop(name, None) for name in ("functions", "modules", "stream")]
        if "context" in self.__dict__ and not sys.is_finalizing():
            self.context.free(owned)

    def active(self) -> AbstractContextManager[None]:
        """See `PrimaryContext.active`."""
        return self.context.active()

    def launch(
        self, kernel: str, blocks: int, threads: int, shared: int, words: Sequence[int]
    ) -> None:
        """See `Launcher.launch`; the kernel runs on the stream and is not waited for."""
        arguments = struct.pack(f"={len(words)}Q", *words)
        with self.active():
            function = self._function(kernel, len(arguments))
            grid, block = (blocks, 1), (threads, 1, 1)
            function.prepared_async_call(grid, block, self.stream, arguments, shared_size=shared)

    def _function(self, kernel: str, size: int) -> Any:
        """Return a kernel that takes ``size`` bytes of arguments."""
        if kernel not in self.functions:
            module = self.modules[kernel.startswith("pixel_row")]
            function = module.get_function(kernel)
            largest = self.driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
            function.set_attribute(largest, self.shared_limit)
            self.functions[kernel] = function.prepare([f"{size}s"])
        return self.functions[kernel]

    def allocate(self, *shape: int) -> DeviceArray:
        """Return an uninitialised array; raises `MemoryBudgetError`."""
        owner = _Allocation(self, max(ITEM, ITEM * prod(shape)))
        return DeviceArray(owner.pointer, shape, owner)

    def keep(self, values: NDArray[Any]) -> DeviceArray:
        """See `Launcher.keep`; raises `MemoryBudgetError`."""
        content = np.frombuffer(values.tobytes(), np.float32)
        array = self.allocate(content.size)
        with self.active():
            self.driver.memcpy_htod(array.pointer, content)
        return array


class _Allocation:
    """Memory that is freed together with the last array that uses it, in any thread."""

    def __init__(self, device: CudaDevice, size: int) -> None:
        self.device = device  # outlives its arrays
        self.owned: list[Any] = []
        with device.active():
            self.owned.append(device.driver.mem_alloc(size))
        self.pointer = int(self.owned[0])

    def __del__(self) -> None:
        if self.owned and not sys.is_finalizing():  # when Python ends, the system frees the memory
            self.device.context.free(self.owned)


class CudaMemory:
    """Arrays on a GPU: a `pmtool.interface.protocol.Memory` that works on the device's stream."""

    def __init__(self, device: CudaDevice) -> None:
        self.device, self.driver = device, device.driver
        self._in_use: list[Any] = []  # must outlast the copying and the kernels

    def zeros(self, *shape: int) -> DeviceArray:
        """Return an array of zeros; raises `MemoryBudgetError`."""
        array = self.device.allocate(*shape)
        self.clear(array)
        return array

    def clear(self, array: DeviceArray) -> None:
        """Set an array to zero."""
        with self.device.active():
            self.driver.memset_d32_async(array.pointer, 0, array.size, self.device.stream)

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        """Copy between arrays of the same shape."""
        _check_shapes(target.shape, source.shape)
        size, stream = ITEM * target.size, self.device.stream
        with self.device.active():
            self.driver.memcpy_dtod_async(target.pointer, source.pointer, size, stream)

    def upload(self, target: DeviceArray, values: Float32s) -> None:
        """Copy an array from the host."""
        _check_shapes(target.shape, values.shape)
        content = np.ascontiguousarray(values, np.float32)
        with self.device.active():
            self.driver.memcpy_htod_async(target.pointer, content, self.device.stream)
        self._in_use.append(content)

    def download(self, array: DeviceArray) -> Float32s:
        """Return a copy on the host, once all work on the stream is done."""
        values = np.empty(array.shape, np.float32)
        self.wait()
        with self.device.active():
            self.driver.memcpy_dtoh(values, array.pointer)
        return values

    def tails(self, target: DeviceArray, seed: int, places: Places) -> None:
        """See `pmtool.kernels.launch.tails`."""
        launch.tails(self.device, target, seed, self._integers(launch.origins(places)))

    def corners(self, values: NDArray[np.int64]) -> DeviceArray:
        """See `Memory.corners`."""
        return self._integers(values)

    def load_windows(self, slices: DeviceArray, corners: DeviceArray, target: DeviceArray) -> None:
        """See `pmtool.kernels.launch.load_windows`."""
        launch.load_windows(self.device, slices, corners, target)

    def load_pixels(
        self, slices: DeviceArray, corners: DeviceArray, row: int, target: DeviceArray
    ) -> None:
        """See `pmtool.kernels.launch.load_pixels`."""
        launch.load_pixels(self.device, slices, corners, row, target)

    def store_pixels(
        self,
        slices: DeviceArray,
        corners: DeviceArray,
        row: int,
        column: int,
        pixels: DeviceArray,
    ) -> None:
        """See `pmtool.kernels.launch.store_pixels`."""
        launch.store_pixels(self.device, slices, corners, row, column, pixels)

    def load_row(self, plane: DeviceArray, row: int, target: DeviceArray) -> None:
        """See `pmtool.kernels.launch.load_row`."""
        launch.load_row(self.device, plane, row, target)

    def standardise(
        self, pixels: DeviceArray, mixture: DeviceArray, residuals: DeviceArray
    ) -> None:
        """See `pmtool.kernels.launch.standardise`."""
        launch.standardise(self.device, pixels, mixture, residuals)

    def _integers(self, values: NDArray[Any]) -> DeviceArray:
        """Copy integers to an array on the device, as unsigned ones of 32 bits."""
        content = np.ascontiguousarray(values, np.uint32)
        array = self.device.allocate(*content.shape)
        with self.device.active():
            self.driver.memcpy_htod_async(array.pointer, content, self.device.stream)
        self._in_use += [content, array]
        return array

    def wait(self) -> None:
        """Wait until all work on the stream is done."""
        with self.device.active():
            self.device.stream.synchronize()
        self._in_use.clear()


def _check_shapes(target: tuple[int, ...], source: tuple[int, ...]) -> None:
    if target != source:
        raise ValueError(f"{source} cannot be copied to {target}")


def _driver() -> ModuleType:
    """Import and initialise the driver module of pycuda; raises `UsageError`."""
    try:
        driver = import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        raise UsageError("the CUDA kernels need pycuda: pip install 'pmtool[gpu]'") from error
    except ImportError as error:
        raise UsageError(
            f"pycuda finds no NVIDIA driver, or not the CUDA that it was built with ({error}): "
            "install them, or use --device cpu"
        ) from error
    try:
        driver.init()
    except driver.Error as error:
        raise UsageError(f"no GPU can be used ({error}): use --device cpu") from error
    return driver
