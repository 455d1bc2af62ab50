"""Calibration of distributions that are right, and of ones that are wrong by a known factor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pmtool.network import Mixture

BITS = 12
SCALE = 0.02


@pytest.fixture(scope="module")
def calibration(script: Callable[[str], Any]) -> Any:
    return script("calibration")


@pytest.fixture(scope="module")
def target() -> Tensor:
    """Logistic, around 0, on the grid of grey levels: ``(1, 1, H, W)``."""
    uniform = torch.rand((1, 1, 300, 300), generator=torch.Generator().manual_seed(1))
    levels = 2**BITS - 1
    level = ((SCALE * torch.logit(uniform) + 1) / 2 * levels).round()
    pixels: Tensor = level / levels * 2 - 1
    return pixels


def two_components(target: Tensor, scale: float, apart: float = 0.0) -> Mixture:
    """Of equal weights, means that much apart."""
    means = torch.tensor([-apart / 2, apart / 2])[None, :, None, None].expand(
        1, 2, *target.shape[2:]
    )
    return Mixture(torch.zeros_like(means), means, torch.full_like(means, math.log(scale)))


def tenths(calibration: Any, mixture: Mixture, target: Tensor) -> Any:
    found = calibration.pit_values(mixture, target, BITS)
    return np.histogram(found, 10, (0, 1))[0] / len(found) * 10


def test_the_right_distribution_needs_no_correction(calibration: Any, target: Tensor) -> None:
    mixture = two_components(target, SCALE)
    np.testing.assert_allclose(tenths(calibration, mixture, target), 1, atol=0.04)
    found = calibration.corrections(mixture, target, BITS)
    assert min(found["scales"].values()) > 0.0005


@pytest.mark.parametrize(("factor", "sign"), [(0.9, 1), (1.1, -1)])
def test_wrong_scales(calibration: Any, target: Tensor, factor: float, sign: int) -> None:
    """Too narrow or too wide; the factor that mends it costs least."""
    mixture = two_components(target, SCALE / factor)
    shares = tenths(calibration, mixture, target)
    assert np.sign(shares[4:6].mean() - shares[[0, 9]].mean()) == sign
    found = calibration.corrections(mixture, target, BITS)["scales"]
    assert min(found, key=found.get) == factor
    assert found[factor] < -0.002


def test_components_too_far_apart(calibration: Any, target: Tensor) -> None:
    found = calibration.corrections(two_components(target, SCALE, 1.5 * SCALE), target, BITS)
    assert found["spreads"][0.9] < found["spreads"][0.95] < 0 < found["spreads"][1.05]
    assert set(found["logits"].values()) == {0.0}  # of equal components


def test_the_outer_levels_are_left_out(calibration: Any) -> None:
    target = torch.tensor([-1.0, 0.0, 1.0, 0.5]).reshape(1, 1, 2, 2)
    assert calibration.pit_values(two_components(target, SCALE), target, BITS).shape == (2,)
