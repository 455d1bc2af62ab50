"""Arrays and launches on a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pmtool.interface.host import HostMemory
from pmtool.kernels.cuda import CudaMemory, DeviceArray
from pmtool.kernels.launch import PixelKernel
from pmtool.kernels.packing import pack
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.pixels.uniforms import Places

HOST = HostMemory()
SMALL = Hyperparameters(channels=16, mixtures=4)


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


def test_windows_of_slices(memory: CudaMemory) -> None:
    values = np.array([[1, 0, 2], [0, 3, 0]])
    slices, corners = memory.zeros(2, 8, 9), memory.corners(values)
    memory.upload(slices, numbers(2, 8, 9))
    windows, pixels = memory.zeros(1, 1, 5, 6), memory.zeros(4, 3)
    memory.load_windows(slices, corners[1:], windows)
    memory.load_pixels(slices, corners, 2, pixels)
    memory.store_pixels(slices, corners, 4, 1, pixels)
    memory.wait()
    expected = numbers(2, 8, 9), np.zeros((1, 1, 5, 6), np.float32), np.zeros((4, 3), np.float32)
    HOST.load_windows(expected[0], values[1:], expected[1])
    HOST.load_pixels(expected[0], values, 2, expected[2])
    HOST.store_pixels(expected[0], values, 4, 1, expected[2])
    for found, wanted in zip((slices, windows, pixels), expected, strict=True):
        np.testing.assert_array_equal(memory.download(found), wanted)


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
