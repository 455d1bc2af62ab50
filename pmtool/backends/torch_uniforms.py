"""The uniform numbers of `pmtool.pixels.uniforms` in PyTorch, on the device that uses them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pmtool.pixels.uniforms import MULTIPLIERS, ROUNDS, WEYL, WORD, Places, check_seed

Words = tuple[Tensor, ...]
"""Words of 32 bits in int64."""
AT_ONCE = 1 << 20
"""Numbers that are drawn at once; every row on its own would be thousands of launches on a GPU, and
the words of the numbers take eight times their memory."""


def draw_tails(target: Tensor, seed: int, places: Places) -> None:
    """Draw the uniform numbers of windows at their places into ``target`` ``(H, W, M)``, as tails.

    See `pmtool.interface.protocol.Memory.tails`.
    """
    check_seed(seed)
    height, width, lanes = target.shape
    numbers, samples, tops, lefts = (
        torch.from_numpy(np.asarray(place, np.int64)).to(target.device) for place in places
    )
    columns = torch.arange(width, device=target.device)[:, None] + lefts
    rows = torch.arange(height, device=target.device)[:, None, None] + tops
    count = max(1, AT_ONCE // (width * lanes))
    for first in range(0, height, count):
        some = slice(first, first + count)
        counter = torch.broadcast_tensors(numbers, rows[some], columns, samples)
        word = _philox(counter, (seed & WORD, seed >> 32))
        uniform = ((word >> 9).float() + 0.5) * 2**-23
        target[some] = torch.where(uniform > 0.5, uniform - 1, uniform)


def _philox(counter: Words, key: tuple[int, int]) -> Tensor:
    """First word of `pmtool.pixels.uniforms.philox`."""
    c0, c1, c2, c3 = counter
    for i in range(ROUNDS):
        k0, k1 = ((k + i * w) & WORD for k, w in zip(key, WEYL, strict=True))
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return c0


def _multiply(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low halves of a 64-bit product; the sign bit is one of its 64 bits."""
    product = word * factor
    return (product >> 32) & WORD, product & WORD
