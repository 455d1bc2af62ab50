"""A GPU with a driver that stands in for pycuda's."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.kernels import cuda
from pmtool.kernels.cuda import CudaDevice, CudaMemory


class Devices:
    """The class `Device`: one GPU."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver

    def count(self) -> int:
        return 1

    def __call__(self, index: int) -> Devices:
        assert index == 0
        return self

    def compute_capability(self) -> tuple[int, int]:
        return 9, 0

    def get_attribute(self, name: str) -> int:
        return {"multiprocessors": 132, "shared": 227 * 1024}[name]

    def retain_primary_context(self) -> Context:
        return Context(self.driver)


class Context:
    """Current in a thread between `push` and `pop`."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver, self.thread, self.valid = driver, threading.get_ident(), True

    def push(self) -> None:
        self.driver.current.append(self)

    def pop(self) -> None:
        self.driver.current.pop()

    def detach(self) -> None:
        self.valid = False

    def __del__(self) -> None:
        if self.valid:
            self.driver.complaints.append("cuCtxDetach failed: invalid device context")


class Owned:
    """What belongs to the context that is current, and is freed as by pycuda.

    That is: in any thread where the context is current, and in the thread that made it.
    """

    def __init__(self, driver: FakeDriver) -> None:
        driver.check_context()
        self.driver, self.context = driver, driver.current[-1]
        driver.owned += 1

    def free(self) -> None:
        self.driver.owned -= 1

    def __del__(self) -> None:
        if "context" not in self.__dict__ or not self.context.valid:
            return
        current = self.driver.current[-1:] == [self.context]
        if not current and self.context.thread != threading.get_ident():
            self.driver.complaints.append("in out-of-thread context could not be cleaned up")
        elif self.driver.failure:
            self.driver.complaints.append(f"a clean-up operation failed: {self.driver.failure}")
        else:
            self.free()


class Work(Owned):
    """All is done at once."""

    handle = 4096

    def synchronize(self) -> None:
        self.driver.check_context()

    def is_done(self) -> bool:
        self.driver.check_context()
        return True


class Allocation(Owned):
    """Memory that holds no zeros."""

    def __init__(self, driver: FakeDriver, size: int) -> None:
        super().__init__(driver)
        self.buffer = np.full(size, 0xFF, np.uint8)
        driver.memory -= size

    def free(self) -> None:
        super().free()
        self.driver.memory += self.buffer.size

    def __int__(self) -> int:
        return self.buffer.ctypes.data


class Module(Owned):
    """Kernels of one source."""

    def __init__(self, driver: FakeDriver, code: bytes) -> None:
        super().__init__(driver)
        self.source = code.decode()

    def get_function(self, name: str) -> Function:
        self.driver.check_context()
        assert name.startswith("pixel_row") == (self.source == "pixel_row.cu")
        return Function(self, name)


class Function:
    """A kernel."""

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.driver, self.name = module, module.driver, name
        self.largest = 48 * 1024
        self.format = ""

    def set_attribute(self, attribute: str, value: int) -> None:
        self.driver.check_numbers(value)
        assert attribute == "largest"
        self.largest = value

    def prepare(self, formats: list[str]) -> Function:
        (self.format,) = formats
        return self

    def prepared_async_call(
        self,
        grid: tuple[int, int],
        block: tuple[int, int, int],
        stream: Work,
        arguments: bytes,
        shared_size: int = 0,
    ) -> None:
        self.driver.check_numbers(*grid, *block, shared_size)
        assert (grid[1], block[1:], self.format) == (1, (1, 1), f"{len(arguments)}s")
        if not grid[0] or shared_size > self.largest:
            raise self.driver.LogicError("cuLaunchKernel failed: invalid argument")
        function = self.driver.library[f"launch_{self.name}"]
        function(grid[0], block[0], ctypes.c_uint64(shared_size), arguments)


class FakeDriver:
    """Stands in for pycuda.driver: memory of the host, kernels of emulation.h.

    Attributes
    ----------
    failure
        What a GPU that has failed says to every call; empty as long as it has not.
    complaints
        What pycuda would have written to standard error.
    owned
        Number of streams, modules and pieces of memory that have not been freed.
    """

    class Error(Exception):
        """Base of the driver's errors."""

    class MemoryError(Error):
        """No more memory."""

    class LogicError(Error):
        """A request that cannot be met."""

    class RuntimeError(Error):
        """A fault of the device, or code that it cannot run."""

    class LaunchError(Error):
        """A kernel that failed."""

    class device_attribute:
        """Names of `Device.get_attribute`."""

        MULTIPROCESSOR_COUNT, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = "multiprocessors", "shared"

    class function_attribute:
        """Names of `Function.set_attribute`."""

        MAX_DYNAMIC_SHARED_SIZE_BYTES = "largest"

    device_class, context_class = Devices, Context

    def __init__(self, library: ctypes.CDLL, memory: int) -> None:
        self.library, self.memory = library, memory
        self.local = threading.local()
        self.initialised = False
        self.failure = ""
        self.complaints: list[str] = []
        self.owned = 0

    @property
    def current(self) -> list[Context]:
        """This thread's stack of contexts."""
        stack: list[Context] = self.local.__dict__.setdefault("stack", [])
        return stack

    def init(self) -> None:
        self.initialised = True

    @property
    def Device(self) -> Any:
        assert self.initialised
        return Devices(self)

    def Stream(self) -> Work:
        return Work(self)

    def check_context(self) -> None:
        assert self.current, "no context is current"
        if self.failure:
            raise self.LaunchError(self.failure)

    def check_numbers(self, *numbers: int) -> None:
        """Refuse what is not exactly an int, such as a number of NumPy's, as pycuda does."""
        self.check_context()
        assert all(type(number) is int and number >= 0 for number in numbers)

    def module_from_buffer(self, code: bytes) -> Module:
        return Module(self, code)

    def mem_alloc(self, size: int) -> Allocation:
        self.check_numbers(size)
        if not size:
            raise self.LogicError("cuMemAlloc failed: invalid argument")
        if self.memory < size:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        return Allocation(self, size)

    def memset_d32_async(self, pointer: int, value: int, count: int, stream: Work) -> None:
        self.check_numbers(pointer, value, count)
        assert value == 0
        ctypes.memset(pointer, 0, 4 * count)

    def memcpy_dtod_async(self, target: int, source: int, size: int, stream: Work) -> None:
        self.check_numbers(target, source, size)
        ctypes.memmove(target, source, size)

    def memcpy_htod(self, target: int, source: NDArray[Any]) -> None:
        self.check_numbers(target)
        assert source.flags.c_contiguous
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def memcpy_htod_async(self, target: int, source: NDArray[Any], stream: Work) -> None:
        self.memcpy_htod(target, source)

    def memcpy_dtoh(self, target: NDArray[Any], source: int) -> None:
        self.check_numbers(source)
        assert target.flags.c_contiguous
        ctypes.memmove(target.ctypes.data, source, target.nbytes)


@pytest.fixture
def fake_driver(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """Of a GPU with 64 MiB, in place of pycuda's."""
    driver = FakeDriver(library, 1 << 26)
    monkeypatch.setattr(cuda, "import_module", lambda name: driver)
    monkeypatch.setattr(cuda, "machine_code", lambda source, architecture: source.encode())
    return driver


@pytest.fixture
def memory(fake_driver: FakeDriver) -> CudaMemory:
    return CudaMemory(CudaDevice())
