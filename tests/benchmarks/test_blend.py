"""Weights between two networks, and wider components."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pmtool.cli.console import run_command
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_state

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Hyperparameters(channels=2, mixtures=2, encoder=4)


@pytest.fixture(scope="module")
def blending(script: Callable[[str], Any]) -> Any:
    return script("blend")


def save(network: PixelMiner, path: Path) -> Path:
    state = {"hyperparameters": network.hyperparameters.to_json(), "averaged": network.state_dict()}
    torch.save(state, path)
    return path


@torch.no_grad()
def within_limits(network: PixelMiner) -> PixelMiner:
    """With components that are narrower than the midpoint's logistic, even half as wide again."""
    assert network.output.bias is not None
    network.output.parametrizations.weight.original0 *= 0.01  # type: ignore[union-attr, operator]
    network.output.bias -= 1
    return network


def test_blend(blending: Any, script: Callable[[str], Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = [within_limits(PixelMiner(TINY).eval()) for _ in range(2)]
    files = [save(network, tmp_path / f"{n}.pt") for n, network in enumerate(networks)]
    out = tmp_path / "out.pt"
    given = (*files, "--share", 0.25, "--scale", 1.5, "--out", out)
    assert run_command(blending.main, list(map(str, given))) == 0
    assert run_command(blending.main, list(map(str, given))) == 6
    first, second = map(folded_state, networks)
    found = script("yardsticks").load(out)[0]
    for name, tensor in folded_state(found).items():
        if name != "output.bias":
            torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * second[name])
    plain = blending.blend(*networks, 0.25, 1.0).eval()
    crops, thickness = torch.rand((3, 1, 1, 8, 8)) - 0.5, torch.rand((1, 1, 1, 1))
    with torch.inference_mode():
        one, other = plain(*crops, thickness), found(*crops, thickness)
    torch.testing.assert_close(other.logits, one.logits)
    torch.testing.assert_close(other.means, one.means)
    torch.testing.assert_close(other.log_scales, one.log_scales + math.log(1.5))


def test_two_networks(blending: Any, tmp_path: Path) -> None:
    sizes = (TINY, Hyperparameters(channels=4, mixtures=2, encoder=4))
    files = [save(PixelMiner(size), tmp_path / f"{size.channels}.pt") for size in sizes]
    out = tmp_path / "out.pt"
    assert run_command(blending.main, [*map(str, files), "--out", str(out)]) == 2
    assert not out.exists()
