"""The kernels on a GPU: the comparisons that test_rows.py and test_pixel_row.py make on a CPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.choices import Precision
from pmtool.interface.host import HostMemory
from pmtool.kernels import launch, reference
from pmtool.kernels.cuda import CudaDevice, CudaMemory
from pmtool.kernels.packing import pack
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.pixels.uniforms import Places
from pmtool.system.devices import gpus

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("one_thread")]

HOST = HostMemory()
COMPACT = Hyperparameters(channels=16)
PAPER = Hyperparameters(channels=128)


@pytest.fixture(scope="module")
def memory() -> CudaMemory:
    pytest.importorskip("pycuda")
    if not gpus():
        pytest.skip("no NVIDIA GPU")
    return CudaMemory(CudaDevice())


def test_a_process_ends_in_silence() -> None:
    """With arrays that are still there, and with a device that another thread has dropped."""
    pytest.importorskip("pycuda")
    if not gpus():
        pytest.skip("no NVIDIA GPU")
    lines = [
        "import threading",
        "from pmtool.kernels.cuda import CudaDevice, CudaMemory",
        "first, dropped = CudaMemory(CudaDevice()), [CudaMemory(CudaDevice()).zeros(3)]",
        "array = first.zeros(3)",
        "worker = threading.Thread(target=dropped.clear)",
        "worker.start()",
        "worker.join()",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")


def kept(memory: CudaMemory, values: NDArray[Any]) -> Any:
    return memory.device.keep(values).reshape(values.shape)


def test_tails(memory: CudaMemory) -> None:
    values = np.random.default_rng(0).integers(0, 2**31, (4, 5)).astype(np.uint64)
    found, expected = memory.zeros(9, 13, 5), np.zeros((9, 13, 5), np.float32)
    for seed in (0, 2**63 + 1):
        memory.tails(found, seed, Places(*values))
        HOST.tails(expected, seed, Places(*values))
        np.testing.assert_array_equal(memory.download(found), expected)


@pytest.mark.parametrize("channels", [1, 62, 160])
def test_load_row(memory: CudaMemory, channels: int) -> None:
    plane = np.random.default_rng(1).normal(0, 1, (3, 4, 7, channels)).astype(np.float32)
    found, expected = memory.zeros(7, 3, channels), np.zeros((7, 3, channels), np.float32)
    memory.load_row(kept(memory, plane), 3, found)
    HOST.load_row(plane, 3, expected)
    np.testing.assert_array_equal(memory.download(found), expected)


def test_windows_of_slices(memory: CudaMemory) -> None:
    """In more lanes than there are windows."""
    rng = np.random.default_rng(1)
    given, values = rng.normal(0, 1, (3, 90, 80)).astype(np.float32), rng.integers(0, 3, (40, 3))
    values[:, 1] = 2 * np.arange(40)  # no pixel in common
    slices, corners = kept(memory, given), memory.corners(values)
    windows, pixels = memory.zeros(40, 1, 10, 70), memory.zeros(60, 50)
    memory.load_windows(slices, corners, windows)
    memory.load_pixels(slices, corners, 9, pixels)
    memory.store_pixels(slices, corners, 4, 7, pixels)
    expected = given.copy(), *(np.zeros(x.shape, np.float32) for x in (windows, pixels))
    HOST.load_windows(given, values, expected[1])
    HOST.load_pixels(given, values, 9, expected[2])
    HOST.store_pixels(expected[0], values, 4, 7, expected[2])
    for found, wanted in zip((slices, windows, pixels), expected, strict=True):
        np.testing.assert_array_equal(memory.download(found), wanted)


def test_give(memory: CudaMemory) -> None:
    rng = np.random.default_rng(2)
    pixels = rng.uniform(-1, 1, (11, 5)).astype(np.float32)
    mixture = rng.normal(0, 1, (11, 5, 14)).astype(np.float32)
    found, expected = memory.zeros(11, 5), np.zeros((11, 5), np.float32)
    memory.standardise(kept(memory, pixels), kept(memory, mixture), found)
    HOST.standardise(pixels, mixture, expected)
    np.testing.assert_allclose(memory.download(found), expected, rtol=1e-5)


@pytest.mark.parametrize("graph", ["quantile1", "quantile2", "quantile3", "mean3"])
@pytest.mark.parametrize(
    ("hyperparameters", "lanes", "tile"),
    [(COMPACT, 11, 8), (COMPACT, 40, 16), (replace(COMPACT, channels=24), 9, 8), (PAPER, 17, 16)],
)
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_pixel_row(
    memory: CudaMemory,
    graph: str,
    hyperparameters: Hyperparameters,
    lanes: int,
    tile: int,
    precision: Precision,
    row_case: Callable[..., Any],
) -> None:
    """Pixels are chosen from the same mixtures, until one is a level off or an operand flips."""
    row = row_case(hyperparameters, graph, lanes, 2)
    expected, arrays = row.arrays(), {n: kept(memory, x) for n, x in row.arrays().items()}
    weights = row.weights
    reference.pixel_row(hyperparameters, weights, graph, expected, precision)
    packed = pack(weights, hyperparameters, precision)
    launch.PixelKernel(memory.device, packed).bind(graph, arrays, tile).run()
    found = {name: memory.download(array) for name, array in arrays.items()}
    levels = np.abs(expected["pixels"] - found["pixels"]) * 2047.5
    same = (levels < 0.5).all(axis=(0, 1, 3))
    assert levels.max() < 1.5
    assert same.mean() > 0.5
    tolerance = {"float32": 1e-4, "float16": 2**-9, "bfloat16": 2**-6}[precision]
    for name, array in expected.items():
        lane = np.s_[same] if array.ndim == 2 else np.s_[:, :, same]
        np.testing.assert_allclose(
            found[name][lane], array[lane], rtol=tolerance, atol=tolerance, err_msg=name
        )
