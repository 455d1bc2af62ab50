"""The kernel as the TensorRT backend runs it, with the default model's weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from numpy.typing import NDArray

from pmtool.backends.accuracy import TOLERANCES
from pmtool.backends.differences import differences
from pmtool.backends.loops import gpu_pixels
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.backends.tensorrt import TensorRTBackend
from pmtool.interface.buffers import Buffers
from pmtool.interface.host import HostMemory
from pmtool.interface.layout import Layout
from pmtool.models.bundle import Bundle


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("graph", ["quantile1", "quantile3", "mean2"])
def test_pixels_are_those_of_onnx_runtime(graph: str, precision: Any, launcher: Any) -> None:
    bundle = Bundle.load()
    engines = SimpleNamespace(
        bundle=bundle,
        log=None,
        target=SimpleNamespace(precision=precision),
        trt=SimpleNamespace(Runtime=lambda log: None),
    )
    memory: Any = HostMemory()
    memory.device = launcher
    backend = TensorRTBackend(engines, memory, "cuda:0", gpu_pixels(bundle, precision, launcher))
    layout, expected = Layout(bundle.hyperparameters), OnnxRuntimeBackend(bundle)
    (error,) = differences([graph], layout, expected, backend).values()
    assert error < {"float32": 1e-4, "bfloat16": TOLERANCES["bfloat16"]}[precision]


def test_weights_are_uploaded_once(launcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a further program uploads are the addresses of its lines."""
    kept: list[int] = []
    keep = launcher.keep

    def counting(values: NDArray[Any]) -> Any:
        kept.append(values.nbytes)
        return keep(values)

    monkeypatch.setattr(launcher, "keep", counting)
    bundle = Bundle.load()
    kernel = gpu_pixels(bundle, "float32", launcher)
    arrays = Buffers(HostMemory(), Layout(bundle.hyperparameters), 4, 64, 2).pixel(1, 0)
    first, second = (kernel.bind("quantile1", arrays) for _ in range(2))
    assert first.kernel is second.kernel
    assert len(kept) == 2 + 2 * first.arrays.depth
    assert max(kept[-2:]) < 1000 < first.packed.matrices.nbytes == kept[0]
