"""What half precision does to the graphs of the default model, and whether a GPU computes them."""

from __future__ import annotations

import pytest

from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.backends.protocol import Backend, Precision
from pmtool.backends.selection import choose_engine
from pmtool.bundle import Bundle
from pmtool.errors import UsageError
from pmtool.export.accuracy import GRAPHS, TOLERANCES, rounding_errors
from pmtool.export.check import differences
from pmtool.layout import Layout


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_rounding_stays_well_below_the_tolerance(precision: Precision) -> None:
    errors = rounding_errors(Bundle.load(), precision)
    assert list(errors) == list(GRAPHS)
    assert 0 < max(errors.values()) < TOLERANCES[precision] / 3


def test_float32_rounds_nothing() -> None:
    assert set(rounding_errors(Bundle.load(), "float32").values()) == {0}


@pytest.fixture(scope="module", params=["tensorrt", "onnxruntime-cuda"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=TOLERANCES)
def backend(name: str, request: pytest.FixtureRequest) -> Backend:
    """Skips tests, with the reason, where the backend cannot run."""
    try:
        engine = choose_engine(name, "cuda:0", request.param)
        return engine.load(Bundle.load(), "cuda:0", 1)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.mark.gpu
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_gpu_computes_the_same(graph: str, backend: Backend) -> None:
    bundle = Bundle.load()
    expected = OnnxRuntimeBackend(bundle)
    (error,) = differences([graph], Layout(bundle.hyperparameters), expected, backend).values()
    assert error <= TOLERANCES[backend.precision]


@pytest.mark.gpu
@pytest.mark.parametrize("graph", ["quantile1", "quantile3", "mean2"])
def test_pixels_without_the_kernel(
    graph: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.load()
    monkeypatch.setattr(backend, "pixels", "engine")
    expected = OnnxRuntimeBackend(bundle)
    (error,) = differences([graph], Layout(bundle.hyperparameters), expected, backend).values()
    assert error <= TOLERANCES[backend.precision]
