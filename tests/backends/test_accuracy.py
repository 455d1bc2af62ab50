"""What half precision does to the graphs of the default model, and whether a GPU computes them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.backends.accuracy import TOLERANCES, RoundingBackend, rounding_errors
from pmtool.backends.differences import differences
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.backends.selection import choose_engine
from pmtool.choices import Precision
from pmtool.errors import UsageError
from pmtool.export import precision
from pmtool.interface.buffers import Buffers
from pmtool.interface.graph_names import GRAPHS
from pmtool.interface.layout import Layout
from pmtool.interface.protocol import Arrays, Backend, Program
from pmtool.models.bundle import Bundle
from pmtool.models.hyperparameters import ENCODER_MARGIN
from pmtool.phantom.chest import chest_phantom
from pmtool.pixels.levels import from_hounsfield


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_rounding_stays_well_below_the_tolerance(half: Precision) -> None:
    errors = rounding_errors(Bundle.load(), half)
    assert list(errors) == list(GRAPHS)
    assert 0 < max(errors.values()) < TOLERANCES[half] / 3


def test_float32_rounds_nothing() -> None:
    assert set(rounding_errors(Bundle.load(), "float32").values()) == {0}


def test_why_the_encoder_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 it would move the midpoint of a phantom's slices by several HU."""
    bundle, size = Bundle.load(), 64 + 2 * ENCODER_MARGIN
    phantom = sitk.GetArrayFromImage(chest_phantom(size=128, slices=3, seed=0))[1:3, 16:112, 16:112]
    slices = from_hounsfield(phantom, bundle.hyperparameters).reshape(2, 1, 1, size, size)

    def midpoint() -> NDArray[np.float32]:
        backend = RoundingBackend(bundle, "bfloat16")
        buffers = Buffers(backend.memory, Layout(bundle.hyperparameters), 64, 64, 1)
        buffers.above[:], buffers.below[:] = slices
        backend.bind("window", buffers.window(0)).run()
        mean: NDArray[np.float32] = buffers.planes["mixture"][..., -2]
        return mean

    exact = midpoint()
    monkeypatch.setattr(precision, "EXACT", re.compile(r"(network\.)?output\.(weight|matrix)"))
    low, high = bundle.hyperparameters.hu_window
    assert np.abs(midpoint() - exact).max() * (high - low) / 2 > 2


def test_what_an_engine_read_when_it_was_bound_does_not_count() -> None:
    class Hasty(OnnxRuntimeBackend):
        def bind(self, graph: str, arrays: Arrays) -> Program:
            return super().bind(graph, {**arrays, "residuals": arrays["residuals"].copy()})

    bundle = Bundle.load()
    layout, expected = Layout(bundle.hyperparameters), OnnxRuntimeBackend(bundle)
    assert differences(["row1"], layout, expected, OnnxRuntimeBackend(bundle)) == {"row1": 0}
    assert differences(["row1"], layout, expected, Hasty(bundle))["row1"] > 0.1


@pytest.fixture(scope="module", params=["tensorrt", "onnxruntime-cuda"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=TOLERANCES)
def backend(name: str, request: pytest.FixtureRequest) -> Backend:
    """Skips tests, with the reason, where the backend is not there; that it fails is a failure."""
    try:
        engine = choose_engine(name, "cuda:0", request.param)
    except UsageError as error:
        pytest.skip(str(error))
    return engine.load(Bundle.load(), "cuda:0", 1)


@pytest.mark.gpu
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_gpu_computes_the_same(graph: str, backend: Backend) -> None:
    assert difference(graph, backend) <= TOLERANCES[backend.precision]


@pytest.mark.gpu
@pytest.mark.parametrize("graph", ["quantile1", "quantile3", "mean2"])
def test_pixels_without_the_kernel(
    graph: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "loops", None)
    assert difference(graph, backend) <= TOLERANCES[backend.precision]


def difference(graph: str, backend: Backend) -> float:
    """From ONNX Runtime on the CPU; skips graphs that a GPU's engine does not have."""
    bundle = Bundle.load()
    expected = OnnxRuntimeBackend(bundle)
    try:
        errors = differences([graph], Layout(bundle.hyperparameters), expected, backend)
    except UsageError as error:
        if "cannot run the graph" not in str(error):
            raise
        pytest.skip(str(error))
    return errors[graph]
