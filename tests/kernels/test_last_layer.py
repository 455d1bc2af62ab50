"""The pixel kernel's last layer takes its factors in half types: what that alone does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.backends.accuracy import TOLERANCES
from pmtool.backends.differences import SIZE, random_arrays
from pmtool.interface.buffers import Buffers
from pmtool.interface.host import HostMemory
from pmtool.interface.layout import Layout
from pmtool.kernels import reference
from pmtool.kernels.weights import pixel_weights
from pmtool.models.bundle import DEFAULT, Bundle


class LastLayerRounded(reference._PixelRow):
    """All other products in float32."""

    def _product(self, columns: list[Any], weight: str) -> Any:
        if weight == "output.matrix":
            return super()._product(columns, weight)
        return np.concatenate(columns, axis=1) @ self.weights[weight]


@pytest.mark.skipif(not DEFAULT.is_dir(), reason="the default model is not there")
@pytest.mark.parametrize("graph", ["quantile1", "quantile3"])
def test_the_last_layer_in_half_types(graph: str) -> None:
    """A 50th of an engine's tolerance; in the first column, before a pixel can lead elsewhere."""
    bundle = Bundle.load()
    weights, layout = pixel_weights(bundle), Layout(bundle.hyperparameters)

    def parameters(row: type[reference._PixelRow], precision: Any) -> NDArray[np.float32]:
        arrays = random_arrays(graph, Buffers(HostMemory(), layout, SIZE, SIZE, 64))
        row(bundle.hyperparameters, weights, graph, arrays, precision).run()
        found: NDArray[np.float32] = arrays["parameters"][0, 0]
        return found

    exact = parameters(reference._PixelRow, "float32")
    np.testing.assert_array_equal(parameters(LastLayerRounded, "float32"), exact)
    errors = {
        precision: float(np.abs(parameters(LastLayerRounded, precision) - exact).max())
        for precision in ("float16", "bfloat16")
    }
    assert 0 < errors["float16"] < TOLERANCES["float16"] / 50
    assert 0 < errors["bfloat16"] < TOLERANCES["bfloat16"] / 50
    assert errors["float16"] < errors["bfloat16"] / 3
