"""The model that ships, and slice pairs for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pmtool.models.bundle import Bundle
from pmtool.sampling.pairs import SlicePair


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="session")
def make_pairs() -> Callable[[tuple[int, int], int], list[SlicePair]]:
    return _make_pairs


def _make_pairs(shape: tuple[int, int], count: int) -> list[SlicePair]:
    """Blurred noise between air and bone; the same first pairs for every ``count``."""
    pairs = []
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = rng.normal(-300, 500, (2, shape[0] // 4 + 1, shape[1] // 4 + 1))
        fine = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, : shape[0], : shape[1]]
        above, below = (fine + rng.normal(0, 40, fine.shape)).clip(-1100, 3200).astype(np.int16)
        pairs.append(SlicePair(above, below, 0.3 + 0.2 * number, number + 5))
    return pairs
