"""Uniform random numbers that are a function of where they are used.

Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011,
doi:10.1145/2063384.2063405): the result depends on no state, and therefore not on the batch,
the schedule, the backend or the number of machines.
"""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmtool.errors import UsageError

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF

Words = NDArray[np.uint64]


def uniforms(
    seed: int, numbers: ArrayLike, rows: ArrayLike, columns: ArrayLike, sample: ArrayLike = 0
) -> NDArray[np.float32]:
    """Uniform numbers strictly inside (0, 1), one for each pixel.

    Parameters
    ----------
    seed
        The generator's key, ``0 <= seed < 2**64``.
    numbers, rows, columns, sample
        The generator's counter: the slice's number, the pixel's position in the slice and the
        index of the slice's sample. Non-negative integers below ``2**32``, of shapes that
        broadcast.

    Returns
    -------
    NDArray[np.float32]
        Numbers in the broadcast shape; multiples of ``2**-24``, symmetric about 1/2.

    Raises
    ------
    UsageError
        If the seed is out of range.
    """
    check_seed(seed)
    counter = tuple(np.asarray(word, np.uint64) for word in (numbers, rows, columns, sample))
    word, *_ = philox(counter, (seed & WORD, seed >> 32))
    return to_unit_interval(word)


class Places(NamedTuple):
    """Positions of windows, for their random numbers; each field holds ``(M,)`` whole numbers.

    Attributes
    ----------
    numbers, samples
        Numbers and samples of the slices, see `uniforms`.
    tops, lefts
        First row and column of a window in its slice.
    """

    numbers: Words
    samples: Words
    tops: Words
    lefts: Words


def check_seed(seed: int) -> None:
    """Raise `UsageError` for a seed that is not a valid key of the generator."""
    if not isinstance(seed, Integral) or not 0 <= seed < 2**64:
        raise UsageError(f"the seed must be a whole number in [0, 2**64), not {seed!r}")


def window_uniforms(seed: int, places: Places, height: int, width: int) -> NDArray[np.float32]:
    """Uniform numbers for windows, ``(height, width, M)``."""
    rows = np.arange(height, dtype=np.uint64)[:, None, None] + places.tops
    columns = np.arange(width, dtype=np.uint64)[:, None] + places.lefts
    return uniforms(seed, places.numbers, rows, columns, places.samples)


def philox(counter: tuple[Words, ...], key: tuple[int, int]) -> tuple[Words, ...]:
    """Philox4x32-10: four 32-bit words from a counter of four words and a key of two.

    The counter's words broadcast; the resulting words have the broadcast shape.
    """
    c0, c1, c2, c3 = counter
    for i in range(ROUNDS):
        k0, k1 = (np.uint64((k + i * w) & WORD) for k, w in zip(key, WEYL, strict=True))
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ (c1 ^ k0), low1, high0 ^ (c3 ^ k1), low0
    return c0, c1, c2, c3


def _multiply(word: Words, factor: int) -> tuple[Words, Words]:
    """High and low halves of a 64-bit product."""
    product = word * np.uint64(factor)
    return product >> np.uint64(32), product & np.uint64(WORD)


def to_unit_interval(word: Words) -> NDArray[np.float32]:
    """Map a 32-bit word to the middle of one of ``2**23`` equal parts of (0, 1)."""
    part = np.asarray(word >> np.uint64(9), np.float32)
    return np.asarray((part + np.float32(0.5)) * np.float32(2**-23))
