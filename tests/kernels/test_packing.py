"""Weights from a bundle, their order in the kernels, and where they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pmtool.choices import Precision
from pmtool.errors import ModelError, UsageError
from pmtool.graphs.pixel import pixel_weights
from pmtool.graphs.row import row_weights
from pmtool.kernels import weights as bundle_weights
from pmtool.kernels.packing import Packed, pack, to_bfloat16
from pmtool.kernels.placement import place, threads, tile_lanes
from pmtool.models.bundle import PIXELS, ROWS, WEIGHTS, Bundle
from pmtool.models.hyperparameters import COMPACT, PAPER, Hyperparameters
from pmtool.network.inference import load_network

H100 = 227 * 1024


def test_weights_of_the_default_bundle() -> None:
    """Those of the graphs in PyTorch."""
    bundle = Bundle.load()
    network = load_network(bundle)
    for found, expected in (
        (bundle_weights.pixel_weights(bundle), pixel_weights(network)),
        (bundle_weights.row_weights(bundle), row_weights(network)),
    ):
        assert found.keys() == expected.keys()
        for name, array in found.items():
            np.testing.assert_allclose(array, expected[name].numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "hyperparameters",
    [Hyperparameters(4, blocks=2, mixtures=3), Hyperparameters(3, encoder=4)],
)
def test_weights_of_other_networks(
    hyperparameters: Hyperparameters, tmp_path: Path, row_case: Callable[..., Any]
) -> None:
    from safetensors.numpy import save_file

    network = row_case(hyperparameters, "quantile1", 1).network
    load = {PIXELS: bundle_weights.pixel_weights, ROWS: bundle_weights.row_weights}
    expected = {PIXELS: pixel_weights(network), ROWS: row_weights(network)}
    stored = {
        prefix + name: np.ascontiguousarray(x)
        for prefix, weights in expected.items()
        for name, x in weights.items()
    }
    save_file(stored, tmp_path / WEIGHTS)

    def bundle(sizes: Hyperparameters) -> Bundle:
        manifest: Any = SimpleNamespace(hyperparameters=sizes)
        return Bundle(tmp_path, manifest, "")

    for prefix, weights in expected.items():
        found = load[prefix](bundle(hyperparameters))
        assert found.keys() == weights.keys()
        for name, array in found.items():
            np.testing.assert_array_equal(array, weights[name])
        for size in ("channels", "blocks"):
            more = {size: getattr(hyperparameters, size) + 1}
            with pytest.raises(ModelError, match="export the model again"):
                load[prefix](bundle(replace(hyperparameters, **more)))


def test_bfloat16_is_rounded_to_the_nearest() -> None:
    x = np.array([1, 1 + 2**-9, 1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-7), 0], np.float32)
    expected = np.array([1, 1, 1, 1 + 2**-6, -(1 + 2**-7), 0], np.float32)
    found = to_bfloat16(x).astype(np.uint32) << 16
    np.testing.assert_array_equal(found.view(np.float32), expected)


def packed(hyperparameters: Hyperparameters, precision: Precision) -> Packed:
    """Weights of a network, all zero."""
    shapes = bundle_weights.pixel_shapes(hyperparameters)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return pack(weights, hyperparameters, precision)


def test_the_model_that_ships_lies_in_shared_memory() -> None:
    placement = place(packed(COMPACT, "bfloat16"), 3, 8, H100)
    assert placement.shared_bytes < 140 * 1024
    assert placement.workspace_bytes == 0
    assert all(x.shared for x in (*placement.states, *placement.weights))


def test_what_does_not_fit_stays_in_global_memory() -> None:
    """At 128 channels all weights, and the lines of the coarsest level."""
    paper = packed(PAPER, "bfloat16")
    assert sum(paper.sizes) == 2 * 16**2 * (58 * 64 + 65 * 64 + 45 * 64 + 2 * 8)
    placement = place(paper, 3, 8, H100)
    assert [x.shared for x in placement.states] == [True, True, False]
    assert not any(x.shared for x in placement.weights)
    assert placement.workspace_bytes > 0
    assert threads(paper) == 256


def test_parts_do_not_overlap() -> None:
    """Whatever the limit, and all start at whole vectors of 16 bytes."""
    model = packed(COMPACT, "float32")
    for limit in range(8 * 1024, H100, 7 * 1024):
        placement = place(model, 3, 8, limit)
        parts = (*placement.states, *placement.weights)
        offsets = sorted(x.offset for x in parts if x.shared)
        assert placement.shared_bytes <= limit
        assert len(set(offsets)) == len(offsets)
        assert all(x.offset % 16 == 0 for x in parts)


@pytest.mark.parametrize(
    ("hyperparameters", "lanes", "expected"),
    [
        (COMPACT, 1000, 8),
        (COMPACT, 2000, 16),
        (PAPER, 100, 8),
        (PAPER, 1000, 16),
        (replace(PAPER, channels=256), 5000, 8),
    ],
)
def test_lanes_of_a_block(hyperparameters: Hyperparameters, lanes: int, expected: int) -> None:
    assert tile_lanes(packed(hyperparameters, "bfloat16"), lanes, 132, H100) == expected


def test_networks_too_large_and_gpus_too_small_are_refused() -> None:
    with pytest.raises(UsageError, match="up to 256 channels, not 257: use another --backend"):
        packed(replace(PAPER, channels=257), "bfloat16")
    with pytest.raises(UsageError, match="bytes of shared memory and the GPU has 1024"):
        place(packed(COMPACT, "bfloat16"), 1, 8, 1024)
