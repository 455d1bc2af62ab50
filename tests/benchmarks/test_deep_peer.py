"""The deep peer learns from crops, and its predictions stand where acquired slices were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import save_file
from torch.utils.data import Dataset

from pmtool.cli.console import run_command
from pmtool.loading import load_volume
from pmtool.network.encoder import Encoder
from pmtool.phantom.chest import chest_phantom
from pmtool.training.crops import Triplets

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def peer(script: Callable[[str], Any]) -> Any:
    return script("deep_peer")


class EdgeCrops(Dataset[Triplets]):
    """Targets 41 HU above the mean of their neighbours, which a network that adds none misses."""

    def __getitem__(self, step: int) -> Triplets:
        generator = torch.Generator().manual_seed(step)
        above, below = torch.rand((2, 4, 16, 16), generator=generator) * 0.1 - 0.5
        slices = torch.stack((above, (above + below) / 2 + 0.02, below), dim=1)
        return Triplets(slices, torch.full((4, 1, 1, 1), 0.5))


def test_learns(peer: Any) -> None:
    network, errors = peer.trained(EdgeCrops(), 60, seed=0)
    assert errors[0] == pytest.approx(0.02 * 4095 / 2, abs=1e-3)  # it starts at the linear one
    assert np.mean(errors[-5:]) < 10
    assert not network.training
    _, once = peer.trained(EdgeCrops(), 3, seed=0)
    _, again = peer.trained(EdgeCrops(), 3, seed=0)
    assert again == once


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Six slices of 18x23 with padding in a corner of all of them."""
    voxels = np.random.default_rng(8).integers(-900, 900, (6, 18, 23)).astype(np.int16)
    voxels[:, :3, :3] = -2048
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.7, 1.25))
    image.SetOrigin((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    return tmp_path / "scan.nrrd"


def test_predict(peer: Any, scan: Path, tmp_path: Path) -> None:
    """A network that has not learned predicts the linear interpolation."""
    weights, out = tmp_path / "unet.safetensors", tmp_path / "out.nrrd"
    save_file(Encoder(peer.CHANNELS).state_dict(), weights)
    arguments = ["predict", "--weights", str(weights), str(scan), str(out)]
    assert run_command(peer.main, arguments) == 0
    before, after = load_volume(scan), load_volume(out)
    assert after.dtype == np.int16
    assert after.image.GetOrigin() == before.image.GetOrigin()
    assert after.image.GetSpacing() == before.image.GetSpacing()
    kept = [0, 2, 4, 5]
    np.testing.assert_array_equal(after.slices[kept], before.slices[kept])
    for z in (1, 3):
        linear = (before.slices[z - 1].astype(float) + before.slices[z + 1]) / 2
        np.testing.assert_allclose(after.slices[z], linear, atol=0.51)
    assert run_command(peer.main, arguments) == 6
    weights.write_bytes(b"damaged")
    assert run_command(peer.main, [*arguments, "--overwrite"]) == 3


def test_train(peer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, weights = tmp_path / "data", tmp_path / "unet.safetensors"
    data.mkdir()
    sitk.WriteImage(chest_phantom(96, 5, (4.0, 4.0, 1.25)), str(data / "phantom.nrrd"))
    arguments = ["train", "--data", str(data), "--patches", "8", "--weights", str(weights)]
    assert run_command(peer.main, arguments) == 0
    assert capsys.readouterr().out.startswith("8 patches in ")
    changed = peer.load(weights).state_dict()["output.weight"]
    assert changed.abs().max() > 0
    assert run_command(peer.main, arguments) == 6
