"""The pixel loop: the kernels and their reference against PyTorch's graph, all on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.backends.torch import TorchBackend
from pmtool.choices import Precision
from pmtool.graphs.pixel import PixelGraph
from pmtool.interface.buffers import Buffers
from pmtool.interface.layout import Layout
from pmtool.kernels import reference
from pmtool.kernels.cpu_pixels import CpuPixels
from pmtool.kernels.launch import Launcher, PixelKernel
from pmtool.kernels.packing import Packed, pack
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.pixels.levels import to_pixels
from pmtool.sampling.lanes import Lanes
from pmtool.sampling.windows import Window
from tests.conftest import group_of

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Hyperparameters(channels=16, mixtures=4)
Arrays = dict[str, NDArray[np.float32]]
CASES = [
    # network, graph, lanes, tile
    (SMALL, "quantile1", 11, 8),
    (SMALL, "quantile2", 5, 16),
    (SMALL, "quantile3", 19, 8),
    (SMALL, "mean1", 9, 8),
    (replace(SMALL, channels=32, mixtures=10), "mean3", 9, 16),
    (replace(SMALL, blocks=2), "quantile3", 3, 8),
    (replace(SMALL, blocks=2, bits=8), "mean2", 17, 16),
    (replace(SMALL, channels=24, mixtures=1), "quantile3", 3, 8),
    (replace(SMALL, encoder=4), "quantile3", 11, 8),
    (replace(SMALL, encoder=4), "mean2", 5, 16),
    (replace(SMALL, channels=5, mixtures=6), "quantile2", 3, 8),
    (replace(SMALL, channels=80), "quantile3", 3, 8),
]
SMALLEST = 8 * 1024
"""Bytes of shared memory in which neither lines nor weights fit."""


def name(case: tuple[Hyperparameters, str, int, int]) -> str:
    hp, graph, lanes, tile = case
    return f"{hp.channels}x{hp.blocks}-K{hp.mixtures}-E{hp.encoder}-{graph}-{lanes}/{tile}"


def assert_same(expected: Arrays, found: Arrays, bits: int, tolerance: float) -> None:
    """Equal but for isolated pixels one level off, after which a lane goes its own way."""
    levels = [np.rint((x["pixels"] + 1) * (2**bits - 1) / 2) for x in (expected, found)]
    difference = np.abs(levels[0] - levels[1])
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01
    same = (difference == 0).all(axis=(0, 1, 3))
    assert same.mean() > 0.5
    for key, array in expected.items():
        lanes = np.s_[same] if array.ndim == 2 else np.s_[:, :, same]
        message = f"{key} differs"
        np.testing.assert_allclose(
            found[key][lanes], array[lanes], rtol=tolerance, atol=tolerance, err_msg=message
        )


@pytest.mark.parametrize("case", CASES, ids=name)
def test_reference(case: Any, row_case: Callable[..., Any]) -> None:
    hp, graph, lanes, _ = case
    row = row_case(hp, graph, lanes)
    found = row.arrays()
    reference.pixel_row(hp, row.weights, graph, found)
    assert_same(row.by_torch(), found, hp.bits, 2e-5)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_cpu(case: Any, cpu_library: ctypes.CDLL, row_case: Callable[..., Any]) -> None:
    hp, graph, lanes, _ = case
    row = row_case(hp, graph, lanes)
    found = row.arrays()
    CpuPixels(cpu_library, hp, row.weights).bind(graph, found).run()
    assert_same(row.by_torch(), found, hp.bits, 2e-5)


@pytest.mark.parametrize("graph", ["quantile3", "mean2"])
def test_lanes_of_the_cpu_do_not_depend_on_the_batch(
    graph: str, cpu_library: ctypes.CDLL, row_case: Callable[..., Any]
) -> None:
    row = row_case(SMALL, graph, 19, 2)
    loop = CpuPixels(cpu_library, SMALL, row.weights)

    def run(arrays: Arrays, chosen: slice) -> Arrays:
        part = {
            name: np.ascontiguousarray(x[chosen] if x.ndim == 2 else x[:, :, chosen])
            for name, x in arrays.items()
        }
        loop.bind(graph, part).run()
        return part

    expected = run(row.arrays(), slice(None))
    for chosen in (slice(5, 6), slice(3, 16), slice(8, 19)):
        for key, array in run(row.arrays(), chosen).items():
            whole = expected[key][chosen] if array.ndim == 2 else expected[key][:, :, chosen]
            np.testing.assert_array_equal(array, whole, err_msg=key)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_single_precision(case: Any, launcher: Any, row_case: Callable[..., Any]) -> None:
    hp, graph, lanes, tile = case
    row = row_case(hp, graph, lanes)
    found = row.arrays()
    kernel = PixelKernel(launcher, pack(row.weights, hp, "float32"))
    kernel.bind(graph, found, tile).run()
    assert_same(row.by_torch(), found, hp.bits, 2e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_results_depend_neither_on_the_batch_nor_on_where_things_lie(
    precision: Precision,
    emulated: Callable[..., Any],
    row_case: Callable[..., Any],
) -> None:
    row = row_case(SMALL, "quantile3", 11, 2)
    packed = pack(row.weights, SMALL, precision)
    expected = row.arrays()
    PixelKernel(emulated(), packed).bind("quantile3", expected, 8).run()
    for tile, shared_limit in ((16, 227 * 1024), (8, SMALLEST), (8, 60 * 1024)):
        found = row.arrays()
        program = PixelKernel(emulated(shared_limit), packed).bind("quantile3", found, tile)
        program.run()
        assert program.placement.shared_bytes <= shared_limit
        for key, array in expected.items():
            np.testing.assert_array_equal(found[key], array, err_msg=key)
    assert program.placement.workspace_bytes > 0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("hyperparameters", "graph", "lanes", "tile"),
    [(SMALL, "quantile3", 11, 8), (replace(SMALL, channels=32, mixtures=10), "mean2", 5, 16)],
)
def test_sixteen_bits(
    precision: Precision,
    hyperparameters: Hyperparameters,
    graph: str,
    lanes: int,
    tile: int,
    launcher: Any,
    row_case: Callable[..., Any],
) -> None:
    """Equal to the reference with rounded operands.

    Sums of another order sometimes move an operand across a rounding's border: by 1 in 256
    (bfloat16) or 2,048 (float16) of itself, and the results by the same times a weight.
    """
    row = row_case(hyperparameters, graph, lanes, 2)
    expected, found = row.arrays(), row.arrays()
    weights = row.weights
    reference.pixel_row(hyperparameters, weights, graph, expected, precision)
    packed = pack(weights, hyperparameters, precision)
    PixelKernel(launcher, packed).bind(graph, found, tile).run()
    levels = np.abs(expected["pixels"] - found["pixels"]) * 2047.5
    assert levels.max() < 1.5
    same = (levels < 0.5).all(axis=(0, 1, 3))
    assert same.mean() > 0.7
    flip = {"bfloat16": 2**-8, "float16": 2**-11}[precision]
    for key, array in expected.items():
        lane = np.s_[same] if array.ndim == 2 else np.s_[:, :, same]
        error = np.abs(found[key][lane] - array[lane])
        assert error.max() < 2 * flip, key
        assert np.median(error) < 1e-5, key


def test_sixteen_bits_are_near_single_precision(
    launcher: Any, row_case: Callable[..., Any]
) -> None:
    """The first column's mixture, before a chosen pixel can lead elsewhere."""
    row = row_case(replace(SMALL, channels=32), "quantile1", 8, 1)
    errors: dict[Precision, float] = {}
    lower: tuple[Precision, ...] = ("float16", "bfloat16")
    for precision in lower:
        found = row.arrays()
        packed = pack(row.weights, row.hyperparameters, precision)
        PixelKernel(launcher, packed).bind("quantile1", found, 8).run()
        difference = found["parameters"] - row.by_torch()["parameters"]
        errors[precision] = float(np.abs(difference[0, 0]).max())
    assert 0 < errors["float16"] < errors["bfloat16"] / 4
    assert errors["bfloat16"] < 0.05


def test_parameters_may_be_left_out(launcher: Any, row_case: Callable[..., Any]) -> None:
    row = row_case(SMALL, "quantile1", 3, 1)
    packed = pack(row.weights, SMALL, "float32")
    expected, found = row.arrays(), row.arrays()
    found.pop("parameters")
    for arrays in (expected, found):
        PixelKernel(launcher, packed).bind("quantile1", arrays, 8).run()
    np.testing.assert_array_equal(found["pixels"], expected["pixels"])


class KernelBackend(TorchBackend):
    """PyTorch whose pixel graphs are kernels on the CPU."""

    def __init__(self, launcher: Launcher, network: PixelMiner, packed: Packed) -> None:
        super().__init__(network)
        self.launcher, self.packed = launcher, packed

    def bind(self, graph: str, arrays: Any) -> Any:
        if not isinstance(self.graphs[graph], PixelGraph):
            return super().bind(graph, arrays)
        shared = {name: tensor.numpy() for name, tensor in arrays.items()}
        return PixelKernel(self.launcher, self.packed).bind(graph, shared)


@pytest.mark.parametrize(("chooser", "known"), [("quantile", (4, 8)), ("mean", (0, 0))])
def test_windows(
    chooser: str, known: tuple[int, int], launcher: Any, row_case: Callable[..., Any]
) -> None:
    """Whole windows, as the sampler generates them, against PyTorch alone."""
    row = row_case(SMALL, f"{chooser}1", 3)
    height, width, lanes = 8, 16, 3
    rng = np.random.default_rng(0)
    slices = rng.uniform(-1, 1, (lanes, 2, height, width)).astype(np.float32)
    above, below = np.split(slices, 2, axis=1)
    uniforms = rng.uniform(0.001, 0.999, (height, width, lanes)).astype(np.float32)
    given = to_pixels(rng.integers(0, 2**12, uniforms.shape), 12)
    packed = pack(row.weights, SMALL, "float32")
    generated = []
    for backend in TorchBackend(row.network), KernelBackend(launcher, row.network, packed):
        buffers = Buffers(backend.memory, Layout(SMALL), height, width, lanes)
        batch = Lanes(backend, buffers, known[1], chooser)
        thickness = np.ones((lanes, 1, 1, 1), np.float32)
        group = group_of(SMALL, backend.memory, above, below, thickness, given)
        windows = [(lane, Window(0, 0, height, width, *known)) for lane in range(lanes)]
        batch.prepare(group, windows)
        batch.take(uniforms)
        batch.generate(group, windows)
        generated.append(np.stack([group.target(*place) for place in windows]))
    difference = np.abs(np.rint((generated[0] - generated[1]) * 2047.5))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01
