"""The memories of all backends do the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pmtool.arrays import Float32s
from pmtool.backends import torch_uniforms
from pmtool.backends.torch import TorchMemory
from pmtool.interface.host import HostMemory
from pmtool.interface.protocol import Array, Memory
from pmtool.models.hyperparameters import RESIDUAL_MAX
from pmtool.pixels.uniforms import Places, uniforms

ON_GPU = pytest.param(
    lambda: TorchMemory(torch.device("cuda:0")),
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU"),
    ],
    id="torch-cuda",
)


@pytest.fixture(
    params=[
        pytest.param(HostMemory, id="host"),
        pytest.param(lambda: TorchMemory(torch.device("cpu")), id="torch"),
        ON_GPU,
    ]
)
def memory(request: pytest.FixtureRequest) -> Memory:
    made: Memory = request.param()
    return made


def random(*shape: int) -> Float32s:
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


def filled(memory: Memory, values: Float32s) -> Array:
    array = memory.zeros(*values.shape)
    memory.upload(array, values)
    return array


def test_up_and_down(memory: Memory) -> None:
    values = random(3, 4, 5)
    array = filled(memory, values)
    assert tuple(array.shape) == values.shape
    np.testing.assert_array_equal(memory.download(array), values)
    view = array[1:][0].reshape((2, 10))[1]
    np.testing.assert_array_equal(memory.download(view), values[1].reshape(2, 10)[1])
    memory.copy(array[0], array[2])
    np.testing.assert_array_equal(memory.download(array[0]), values[2])
    kept = memory.download(array)
    memory.clear(array[:2])
    memory.wait()
    np.testing.assert_array_equal(memory.download(array), [0 * values[0], 0 * values[1], values[2]])
    np.testing.assert_array_equal(kept[1], values[1])


CORNERS = np.array([[2, 0, 3], [0, 5, 0], [2, 6, 4]])
"""Of windows of 4 x 5 pixels in three slices of 10 x 9."""


def test_windows_of_slices(memory: Memory) -> None:
    slices, target = random(3, 10, 9), filled(memory, random(4, 1, 4, 5))
    corners = memory.corners(CORNERS)
    memory.load_windows(filled(memory, slices), corners[1:], target[:2])
    found = memory.download(target)
    np.testing.assert_array_equal(found[0, 0], slices[0, 5:9, 0:5])
    np.testing.assert_array_equal(found[1, 0], slices[2, 6:10, 4:9])
    np.testing.assert_array_equal(found[2:], random(4, 1, 4, 5)[2:])


def test_pixels_of_windows(memory: Memory) -> None:
    """The first lanes; the last one has no window."""
    slices, target = random(3, 10, 9), filled(memory, random(3, 4))
    memory.load_pixels(filled(memory, slices), memory.corners(CORNERS), 2, target)
    found = memory.download(target)
    for lane, (number, top, left) in enumerate(CORNERS):
        np.testing.assert_array_equal(found[:, lane], slices[number, top + 2, left : left + 3])
    np.testing.assert_array_equal(found[:, 3], random(3, 4)[:, 3])


def test_pixels_are_stored_in_windows(memory: Memory) -> None:
    """From a column on, and nowhere else."""
    slices, pixels = filled(memory, random(3, 10, 9)), random(2, 4)
    memory.store_pixels(slices, memory.corners(CORNERS), 3, 1, filled(memory, pixels))
    expected = random(3, 10, 9)
    for lane, (number, top, left) in enumerate(CORNERS):
        expected[number, top + 3, left + 1 : left + 3] = pixels[:, lane]
    np.testing.assert_array_equal(memory.download(slices), expected)


def test_a_row_of_planes(memory: Memory) -> None:
    planes, target = random(5, 6, 7, 3), memory.zeros(7, 5, 3)
    memory.load_row(filled(memory, planes), 4, target)
    np.testing.assert_array_equal(memory.download(target), planes[:, 4].transpose(1, 0, 2))


def test_known_pixels(memory: Memory) -> None:
    pixels, mixture = random(8, 5), random(8, 5, 14)
    mixture[..., -1] -= 2
    residuals = filled(memory, random(9, 5))
    memory.standardise(filled(memory, pixels), filled(memory, mixture), residuals[1:])
    expected = (pixels - mixture[..., -2]) * np.exp(-mixture[..., -1])
    assert np.abs(expected).max() > RESIDUAL_MAX
    found = memory.download(residuals)
    np.testing.assert_array_equal(found[0], random(9, 5)[0])
    np.testing.assert_allclose(found[1:], expected.clip(-RESIDUAL_MAX, RESIDUAL_MAX), rtol=1e-5)


@pytest.mark.parametrize("at_once", [1, 100, torch_uniforms.AT_ONCE])
def test_tails(memory: Memory, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the pixels of the slices, wherever their windows lie."""
    monkeypatch.setattr(torch_uniforms, "AT_ONCE", at_once)
    values = [3, 3, 2**31], [0, 1, 0], [0, 64, 32], [10, 0, 2**20]
    places = Places(*(np.array(x, np.uint64) for x in values))
    target = memory.zeros(6, 8, 3)
    memory.tails(target, 99, places)
    found = memory.download(target)
    for lane, (number, sample, top, left) in enumerate(zip(*values, strict=True)):
        rows, columns = np.arange(top, top + 6)[:, None], np.arange(left, left + 8)
        u = uniforms(99, number, rows, columns, sample)
        np.testing.assert_array_equal(found[..., lane], np.where(u > 0.5, u - 1, u))
