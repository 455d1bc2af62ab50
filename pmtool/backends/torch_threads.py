"""Number of threads that PyTorch uses, which it keeps for every calling thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def torch_threads(count: int) -> AbstractContextManager[None]:
    """Let PyTorch use ``count`` threads within a context, in the thread that enters it.

    Afterwards, PyTorch uses as many as in the thread that called this function. A thread that has
    not used PyTorch before would start with the number that was set last anywhere, such as in a
    context of another thread.
    """
    return _threads(count, torch.get_num_threads())


@contextmanager
def _threads(count: int, afterwards: int) -> Iterator[None]:
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(afterwards)
