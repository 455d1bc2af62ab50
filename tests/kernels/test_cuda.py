"""Arrays and launches on a GPU: with a driver that stands in for pycuda's, and without any."""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib.util
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.errors import MemoryBudgetError, UsageError
from pmtool.interface.host import HostMemory
from pmtool.kernels import cuda
from pmtool.kernels.cuda import CudaDevice, CudaMemory, DeviceArray
from pmtool.kernels.launch import PixelKernel
from pmtool.kernels.packing import pack
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.pixels.uniforms import Places

HOST = HostMemory()
SMALL = Hyperparameters(channels=16, mixtures=4)


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


@pytest.fixture
def fake_driver(library: ctypes.CDLL) -> FakeDriver:
    return FakeDriver(library, 1 << 26)


@pytest.fixture
def memory(fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> CudaMemory:
    """Of a GPU with 64 MiB."""
    monkeypatch.setattr(cuda, "import_module", lambda name: fake_driver)
    monkeypatch.setattr(cuda, "machine_code", lambda source, architecture: source.encode())
    return CudaMemory(CudaDevice())


def numbers(*shape: int) -> Any:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_views_of_a_device_array(memory: CudaMemory) -> None:
    array = memory.zeros(4, 3, 5)
    expected = numbers(4, 3, 5)
    memory.upload(array, expected)
    views: list[Callable[[Any], Any]] = [
        lambda a: a[2],
        lambda a: a[-1][0],
        lambda a: a[1:3],
        lambda a: a[1:][1:],
        lambda a: a[3:3],
        lambda a: a.reshape((2, 6, 5)),
        lambda a: a[1].reshape((15,))[2:9],
    ]
    for view in views:
        found, wanted = view(array), view(expected)
        assert (found.shape, len(found)) == (wanted.shape, len(wanted))
        np.testing.assert_array_equal(memory.download(found), wanted)


def test_what_is_no_view_is_refused() -> None:
    array = DeviceArray(4096, (4, 3), None)
    with pytest.raises(IndexError):
        array[4]
    with pytest.raises(IndexError):
        array[::2]
    with pytest.raises(ValueError, match="cannot become"):
        array.reshape((5, 3))


def test_copies(memory: CudaMemory) -> None:
    first, second = memory.zeros(3, 4), memory.zeros(3, 4)
    memory.upload(first, numbers(3, 4))
    memory.copy(second[1:], first[:2])
    memory.clear(first[1])
    np.testing.assert_array_equal(memory.download(second)[1:], numbers(3, 4)[:2])
    np.testing.assert_array_equal(memory.download(first)[:, 0], [0, 0, 8])
    with pytest.raises(ValueError, match="cannot be copied"):
        memory.copy(first, second[1:])
    with pytest.raises(ValueError, match="cannot be copied"):
        memory.upload(first, numbers(4))


def test_rows(memory: CudaMemory) -> None:
    plane, mixture, pixels = numbers(3, 4, 7, 6), numbers(5, 3, 8) / 100, numbers(5, 3) / 15
    kept = {name: memory.zeros(*x.shape) for name, x in [("plane", plane), ("mixture", mixture)]}
    memory.upload(kept["plane"], plane)
    memory.upload(kept["mixture"], mixture)
    tails, drawn = memory.zeros(6, 5, 3), np.zeros((6, 5, 3), np.float32)
    places = Places(*np.arange(12, dtype=np.uint64).reshape(4, 3))
    memory.tails(tails, 5, places)
    HOST.tails(drawn, 5, places)
    np.testing.assert_array_equal(memory.download(tails), drawn)
    given, row, residuals = memory.zeros(5, 3), memory.zeros(7, 3, 6), memory.zeros(5, 3)
    memory.upload(given, pixels)
    memory.load_row(kept["plane"], 2, row)
    memory.standardise(given, kept["mixture"], residuals)
    expected = np.zeros((7, 3, 6), np.float32), np.zeros((5, 3), np.float32)
    HOST.load_row(plane, 2, expected[0])
    HOST.standardise(pixels, mixture, expected[1])
    np.testing.assert_array_equal(memory.download(row), expected[0])
    np.testing.assert_allclose(memory.download(residuals), expected[1], rtol=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_a_row_of_pixels(memory: CudaMemory, row_case: Callable[..., Any]) -> None:
    """In a thread of its own, whose stack of contexts is another one."""
    row = row_case(SMALL, "quantile2", 9, 2)
    packed = pack(row.weights, SMALL, "float32")
    arrays = {name: memory.device.keep(x).reshape(x.shape) for name, x in row.arrays().items()}
    program = PixelKernel(memory.device, packed).bind("quantile2", arrays)
    worker = threading.Thread(target=program.run)
    worker.start()
    worker.join()
    pixels = memory.download(arrays["pixels"])
    np.testing.assert_allclose(pixels, row.by_torch()["pixels"], atol=1 / 2047)
    assert not memory.driver.current


def test_memory_that_runs_out(memory: CudaMemory) -> None:
    with pytest.raises(
        MemoryBudgetError, match="out of GPU memory; give a smaller --batch or --window"
    ):
        memory.zeros((1 << 24) + 1)
    assert not memory.driver.current


def test_memory_is_freed_in_any_thread(memory: CudaMemory) -> None:
    """With the last view of it, where no context is current."""
    free = memory.driver.memory
    views = [memory.zeros(100, 3)[7]]
    assert memory.driver.memory == free - 1200
    worker = threading.Thread(target=views.clear)
    worker.start()
    worker.join()
    assert memory.driver.memory == free


def test_a_device_is_freed_in_any_thread(fake_driver: FakeDriver, memory: CudaMemory) -> None:
    """Kernels and stream; only the context stays."""
    memories = [CudaMemory(CudaDevice())]
    before = fake_driver.owned
    memories[0].load_row(memory.zeros(1, 1, 1, 1), 0, memory.zeros(1, 1, 1))
    worker = threading.Thread(target=memories.clear)
    worker.start()
    worker.join()
    assert fake_driver.owned == before - 3
    assert not fake_driver.complaints


def test_all_on_a_gpu_share_a_context_to_the_end(
    fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A context that pycuda is left to destroy would be given back in the wrong way."""
    ends: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", ends.append)
    monkeypatch.setattr(cuda, "import_module", lambda name: fake_driver)
    monkeypatch.setattr(cuda, "machine_code", lambda source, architecture: source.encode())
    first, second = CudaDevice(), CudaDevice()
    assert first.context is second.context
    del first, second
    array = CudaMemory(CudaDevice()).zeros(3)
    (end,) = ends
    end()
    del array
    assert not fake_driver.complaints


def test_a_gpu_that_failed_is_given_up_in_silence(
    fake_driver: FakeDriver, memory: CudaMemory
) -> None:
    """Its memory and its kernels; pycuda would complain about each of them."""
    array = memory.zeros(3)
    fake_driver.failure = "unspecified launch failure"
    with pytest.raises(UsageError, match=r"the GPU failed \(unspecified launch failure\): use"):
        memory.wait()
    kept = fake_driver.owned
    del array, memory
    gc.collect()
    assert fake_driver.owned == kept
    assert not fake_driver.complaints
    assert not fake_driver.current


def test_no_memory_for_a_context(fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: Devices) -> None:
        raise fake_driver.MemoryError("cuDevicePrimaryCtxRetain failed: out of memory")

    monkeypatch.setattr(Devices, "retain_primary_context", fail)
    monkeypatch.setattr(cuda, "import_module", lambda name: fake_driver)
    monkeypatch.setattr(cuda, "machine_code", lambda source, architecture: source.encode())
    with pytest.raises(MemoryBudgetError, match="out of GPU memory"):
        CudaDevice()


def test_a_gpu_that_is_not_there(memory: CudaMemory) -> None:
    with pytest.raises(UsageError, match="no GPU 1, only 1"):
        CudaDevice(1)


def test_without_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("pycuda") is not None:
        pytest.skip("pycuda is installed")
    with pytest.raises(UsageError, match=r"pip install 'pmtool\[gpu\]'"):
        CudaDevice()


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise ImportError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(cuda, "import_module", fail)
    with pytest.raises(UsageError, match=r"no NVIDIA driver.*\(libcuda.so.1: cannot open shared"):
        CudaDevice()


def test_a_driver_that_fails(fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise fake_driver.Error("cuInit failed: no CUDA-capable device is detected")

    monkeypatch.setattr(fake_driver, "init", fail)
    monkeypatch.setattr(cuda, "import_module", lambda name: fake_driver)
    with pytest.raises(UsageError, match=r"no CUDA-capable device is detected.*--device cpu"):
        CudaDevice()


@pytest.mark.parametrize("kind", ["LogicError", "RuntimeError"])
def test_a_driver_that_is_too_old(
    kind: str, fake_driver: FakeDriver, memory: CudaMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(code: bytes) -> None:
        raise getattr(fake_driver, kind)("cuModuleLoadDataEx failed: no kernel image")

    monkeypatch.setattr(fake_driver, "module_from_buffer", fail)
    with pytest.raises(UsageError, match="the NVIDIA driver cannot load the kernels"):
        CudaDevice()
    assert not fake_driver.current


def test_a_gpu_that_fails(memory: CudaMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise memory.driver.LogicError("cuMemsetD32Async failed: an illegal address")

    for owner, name in ((memory.driver, "memset_d32_async"), (Context, "pop"), (Context, "push")):
        monkeypatch.setattr(owner, name, fail)
        with pytest.raises(UsageError, match=r"the GPU failed .*illegal address.*: use --device"):
            memory.zeros(4)
