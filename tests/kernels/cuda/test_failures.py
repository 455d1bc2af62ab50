"""GPUs that are not there, fail, or have no memory."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from pmtool.errors import MemoryBudgetError, UsageError
from pmtool.kernels import cuda
from pmtool.kernels.cuda import CudaDevice, CudaMemory


def test_memory_that_runs_out(memory: CudaMemory) -> None:
    with pytest.raises(
        MemoryBudgetError, match="out of GPU memory; give a smaller --batch or --window"
    ):
        memory.zeros((1 << 24) + 1)
    assert not memory.driver.current


def test_no_memory_for_a_context(fake_driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: object) -> None:
        raise fake_driver.MemoryError("cuDevicePrimaryCtxRetain failed: out of memory")

    monkeypatch.setattr(fake_driver.device_class, "retain_primary_context", fail)
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


def test_a_driver_that_fails(fake_driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise fake_driver.Error("cuInit failed: no CUDA-capable device is detected")

    monkeypatch.setattr(fake_driver, "init", fail)
    with pytest.raises(UsageError, match=r"no CUDA-capable device is detected.*--device cpu"):
        CudaDevice()


@pytest.mark.parametrize("kind", ["LogicError", "RuntimeError"])
def test_a_driver_that_is_too_old(
    kind: str, fake_driver: Any, memory: CudaMemory, monkeypatch: pytest.MonkeyPatch
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

    context = memory.driver.context_class
    for owner, name in ((memory.driver, "memset_d32_async"), (context, "pop"), (context, "push")):
        monkeypatch.setattr(owner, name, fail)
        with pytest.raises(UsageError, match=r"the GPU failed .*illegal address.*: use --device"):
            memory.zeros(4)
