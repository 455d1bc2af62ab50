"""A GPU's context, and the freeing of what is in it."""

from __future__ import annotations

import atexit
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pmtool.errors import UsageError
from pmtool.kernels.cuda import CudaDevice, CudaMemory


def test_memory_is_freed_in_any_thread(memory: CudaMemory) -> None:
    """With the last view of it, where no context is current."""
    free = memory.driver.memory
    views = [memory.zeros(100, 3)[7]]
    assert memory.driver.memory == free - 1200
    worker = threading.Thread(target=views.clear)
    worker.start()
    worker.join()
    assert memory.driver.memory == free


def test_a_device_is_freed_in_any_thread(fake_driver: Any, memory: CudaMemory) -> None:
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
    fake_driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A context that pycuda is left to destroy would be given back in the wrong way."""
    ends: list[Callable[[], None]] = []
    monkeypatch.setattr(atexit, "register", ends.append)
    first, second = CudaDevice(), CudaDevice()
    assert first.context is second.context
    del first, second
    array = CudaMemory(CudaDevice()).zeros(3)
    (end,) = ends
    end()
    del array
    assert not fake_driver.complaints


def test_a_gpu_that_failed_is_given_up_in_silence(fake_driver: Any, memory: CudaMemory) -> None:
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
