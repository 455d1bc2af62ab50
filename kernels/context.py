"""The primary context of a GPU, through pycuda: making it current, and freeing what is in it."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

from pmtool.errors import OUT_OF_GPU_MEMORY, MemoryBudgetError, UsageError


class PrimaryContext:
    """The primary context of a GPU, which TensorRT, ONNX Runtime and PyTorch use too.

    It is kept until the process ends, see `primary_context`: pycuda releases a primary context
    correctly only if told to, and does not take it off the thread's stack of contexts.

    Parameters
    ----------
    driver
        Module ``pycuda.driver``.
    index
        Index of the GPU.

    Raises
    ------
    UsageError, MemoryBudgetError
        If the GPU fails or has no memory for a context.
    """

    def __init__(self, driver: ModuleType, index: int) -> None:
        self.driver = driver
        self.given_up: list[Any] = []
        with _converted(driver):
            self.context = driver.Device(index).retain_primary_context()
        atexit.register(self.context.detach)
        with self.active():
            self.probe = driver.Stream()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current in this thread, and convert errors of pycuda."""
        with _converted(self.driver):
            self.context.push()
            try:
                yield
            finally:
                self.context.pop()

    def free(self, owned: list[Any]) -> None:
        """Empty a list of memory, streams and modules that nothing else refers to, in any thread.

        pycuda frees them only where their context is current, or in the thread that made it. On a
        GPU that has failed nothing can be freed, and pycuda would write a warning about each of
        them: they are kept until the process ends.
        """
        try:
            with self.active():
                self.probe.is_done()  # raises an error if the GPU has failed
                owned.clear()
        except Exception:  # reported where the GPU is used
            self.given_up += owned


primary_context = cache(PrimaryContext)
"""Return the primary context of a GPU, one for the whole process."""


@contextmanager
def _converted(driver: Any) -> Iterator[None]:
    """Convert errors of pycuda."""
    try:
        yield
    except driver.MemoryError as error:
        raise MemoryBudgetError(OUT_OF_GPU_MEMORY) from error
    except driver.Error as error:
        raise UsageError(f"the GPU failed ({error}): use --device cpu") from error
