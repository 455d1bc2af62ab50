"""Philox against published answers and against a second, scalar implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmtool.errors import UsageError
from pmtool.pixels.uniforms import philox, to_unit_interval, uniforms

WORDS = st.integers(0, 2**32 - 1)

# Random123 (D. E. Shaw Research), tests/kat_vectors, philox4x32 10: counter, key, answer.
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def scalar_philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 in Python's integers, written from the paper's figures alone."""
    left0, right0, left1, right1 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * left0, 0xCD9E8D57 * left1
        left0, right0, left1, right1 = (
            (p1 // 2**32) ^ right0 ^ k0,
            p1 % 2**32,
            (p0 // 2**32) ^ right1 ^ k1,
            p0 % 2**32,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return left0, right0, left1, right1


def vector_philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    return tuple(int(w) for w in philox(tuple(np.asarray(c, np.uint64) for c in counter), key))


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    assert vector_philox(counter, key) == answer
    assert scalar_philox(counter, key) == answer


@settings(deadline=None)
@given(st.tuples(WORDS, WORDS, WORDS, WORDS), st.tuples(WORDS, WORDS))
def test_agrees_with_the_scalar_implementation(
    counter: tuple[int, ...], key: tuple[int, int]
) -> None:
    assert vector_philox(counter, key) == scalar_philox(counter, key)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), WORDS, WORDS, WORDS, WORDS)
def test_key_is_the_seed_and_counter_the_place(
    seed: int, number: int, row: int, column: int, sample: int
) -> None:
    word = scalar_philox((number, row, column, sample), (seed % 2**32, seed // 2**32))[0]
    expected = ((word // 2**9) + 0.5) / 2**23
    assert float(uniforms(seed, number, row, column, sample)) == expected


def test_a_part_is_the_same_as_in_the_whole() -> None:
    rows, columns = np.arange(40)[:, None], np.arange(30)
    whole = uniforms(7, np.asarray([3, 9])[:, None, None], rows, columns)
    assert whole.shape == (2, 40, 30)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole[1, 8:16, 5:], uniforms(7, 9, rows[8:16], columns[5:]))


def test_strictly_inside_the_unit_interval() -> None:
    ends = to_unit_interval(np.asarray([0, 2**32 - 1], np.uint64))
    np.testing.assert_array_equal(ends, np.asarray([2**-24, 1 - 2**-24], np.float32))


def test_looks_uniform_and_independent() -> None:
    u = uniforms(1, np.arange(2)[:, None, None], np.arange(256)[:, None], np.arange(256))
    counts = np.histogram(u, 64, (0, 1))[0]
    assert np.sum((counts - u.size / 64) ** 2 / (u.size / 64)) < 120  # chi-squared, 63 degrees
    neighbours = [(u[0], u[1]), (u[:, 1:], u[:, :-1]), (u[..., 1:], u[..., :-1])]
    other_sample = uniforms(1, 0, np.arange(256)[:, None], np.arange(256), 1)
    for a, b in [*neighbours, (u[0], other_sample)]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed: int) -> None:
    with pytest.raises(UsageError, match="seed"):
        uniforms(seed, 0, 0, 0)
