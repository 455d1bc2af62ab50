"""The yardsticks against noise of known distribution, and the whole script on phantoms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch import Tensor

from pmtool.cli.console import run_command
from pmtool.errors import InputError
from pmtool.loading import load_volume
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.inference import ArrayNetwork
from pmtool.pixels import mixture
from pmtool.pixels.levels import from_hounsfield, to_levels
from pmtool.sampling.pairs import Neighbours

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 600
TINY = Hyperparameters(channels=2, mixtures=1, encoder=4)


@pytest.fixture(scope="module")
def yardsticks(script: Callable[[str], Any]) -> Any:
    return script("yardsticks")


@pytest.fixture(scope="module")
def simple(script: Callable[[str], Any]) -> Any:
    return script("simple_models")


def crops_of(difference: Tensor, noise: Tensor) -> Tensor:
    """Targets that differ by noise from the mean of neighbours that differ: ``(N, 3, H, W)``."""
    linear = torch.zeros_like(difference)
    return torch.cat((linear + difference / 2, linear + noise, linear - difference / 2), dim=1)


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).clamp(1e-6, 1 - 1e-6)


def logistic(scale: Tensor, seed: int) -> Tensor:
    return scale * torch.logit(uniform(seed, *scale.shape))


def bits_of(crops: Tensor, means: Tensor, scale: Tensor) -> float:
    """Of a logistic, by the specification in NumPy."""
    parts = mixture.Mixture(np.zeros(1), means[..., None].numpy(), scale.log()[..., None].numpy())
    log_p = mixture.log_probability(parts, to_levels(crops[:, 1:2].numpy(), 12), 12)
    return -float(log_p.mean()) / math.log(2)


def test_logistics_find_the_scales_of_the_noise(yardsticks: Any, simple: Any) -> None:
    """Half of every crop has four times the contrast and the noise of the other half."""
    contrast = torch.full((32, 1, 16, 16), 0.01)
    contrast[..., 8:] = 0.04
    scale = contrast / 2
    crops = crops_of(contrast, logistic(scale, 1))
    models = simple.fitted_models(crops, 12, STEPS)
    bits = {name: yardsticks.mean_bits(model, crops, 12) for name, model in models.items()}
    best = bits_of(crops, torch.zeros_like(scale), scale)
    one = [bits_of(crops, 0 * scale, 0 * scale + s) for s in np.geomspace(0.005, 0.02, 50)]
    assert bits["global_scale"] == pytest.approx(min(one), abs=0.005)
    assert bits["pixel_contrast"] == pytest.approx(best, abs=0.005)
    assert bits["local_contrast"] < bits["global_scale"] - 0.1
    assert bits["per_pixel_mlp"] == pytest.approx(best, abs=0.03)


def test_local_contrast_sees_through_noise(yardsticks: Any, simple: Any) -> None:
    """The neighbours differ by noise of the target's scale: several pixels tell it better."""
    scale = (0.002 * 50 ** uniform(2, 32, 1, 1, 1)).expand(-1, -1, 16, 16)
    crops = crops_of(logistic(scale, 3), logistic(scale, 4))
    models = simple.fitted_models(crops, 12, STEPS)
    bits = {name: yardsticks.mean_bits(model, crops, 12) for name, model in models.items()}
    best = bits_of(crops, torch.zeros_like(scale), scale)
    assert bits["local_contrast"] == pytest.approx(best, abs=0.1)
    assert bits["local_contrast"] < bits["pixel_contrast"] - 0.1
    assert bits["pixel_contrast"] < bits["global_scale"] - 0.1


def test_mixture_on_two_pixels_learns_what_a_logistic_cannot(yardsticks: Any, simple: Any) -> None:
    """The target is the denser of its neighbours."""
    difference = 0.2 * uniform(5, 16, 1, 16, 16) - 0.1
    models = simple.fitted_models(crops := crops_of(difference, difference.abs() / 2), 12, STEPS)
    bits = {name: yardsticks.mean_bits(model, crops, 12) for name, model in models.items()}
    assert bits["per_pixel_mlp"] < bits["pixel_contrast"] - 1


def test_local_contrast_is_a_mean(simple: Any) -> None:
    above, below = uniform(6, 2, 1, 12, 9), uniform(7, 2, 1, 12, 9)
    difference = (above - below).abs().numpy()
    expected = ndimage.uniform_filter(difference, (1, 1, 5, 5), mode="nearest")
    np.testing.assert_allclose(simple.local_contrast(above, below), expected, atol=1e-6)


def test_tiles(yardsticks: Any) -> None:
    """Voxels that tell where they are: in tiles of 64, every ninth slice."""
    z, y, x = np.ogrid[:29, :140, :200]
    slices = (z * 100 + (y // 64) * 10 + x // 64).astype(np.int16)
    whole = yardsticks.tiles(slices, 10_000, TINY).numpy()
    assert whole.shape == (3 * 2 * 3, 3, 64, 64)
    expected = [
        [(z + d) * 100 + row * 10 + column for d in (-1, 0, 1)]
        for z in (5, 14, 23)
        for row in range(2)
        for column in range(3)
    ]
    blocks = np.array(expected, np.int16)[:, :, None, None].repeat(64, 2).repeat(64, 3)
    np.testing.assert_array_equal(whole, from_hounsfield(blocks, TINY))
    few = yardsticks.tiles(slices, 4, TINY).numpy()
    np.testing.assert_array_equal(few, whole[[0, 6, 11, 17]])
    assert len(yardsticks.tiles(slices[:3], 10, TINY)) == 6
    for small in (slices[:2], slices[:, :63], slices[:, :, :63]):
        with pytest.raises(InputError, match="holds no crop"):
            yardsticks.tiles(small, 10, TINY)


def test_filter_works_in_plane(yardsticks: Any) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.integers(-500, 500, (3, 20, 24)).astype(np.int16)
    voxels[1] = 7
    volume = load_volume(sitk.GetImageFromArray(voxels))
    np.testing.assert_array_equal(yardsticks.prepared(volume, 0.0, TINY), voxels)
    blurred = np.stack([ndimage.gaussian_filter(s.astype(float), 0.8) for s in voxels])
    soft = yardsticks.prepared(volume, -1.0, TINY)
    np.testing.assert_allclose(soft[:, 4:-4, 4:-4], blurred[:, 4:-4, 4:-4], atol=0.51)
    assert (soft[1] == 7).all()
    sharp = yardsticks.prepared(volume, 1.0, TINY)
    assert soft[0].std() < voxels[0].std() < sharp[0].std()
    assert sharp.max() <= TINY.hu_window[1]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(6)
    smooth = ndimage.gaussian_filter(rng.standard_normal((5, 70, 130)), 1.0)
    image = sitk.GetImageFromArray((2000 * smooth - 500).astype(np.int16))
    image.SetSpacing((0.7, 0.7, 1.25))
    image.SetOrigin((1.0, 2.0, 3.0))
    folder = tmp_path / "scans"
    folder.mkdir()
    sitk.WriteImage(image, str(folder / "scan.nii.gz"))
    return folder / "scan.nii.gz"


def test_script(
    yardsticks: Any, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network = PixelMiner(TINY).eval()
    torch.nn.init.normal_(network.encoder.output.weight, std=0.1)
    checkpoint, result = tmp_path / "checkpoint.pt", tmp_path / "result.json"
    torch.save({"hyperparameters": TINY.to_json(), "averaged": network.state_dict()}, checkpoint)
    arguments = ["--data", scan.parent, "--validation", scan, "--model", checkpoint, "--steps", 5]
    arguments += ["--json", result, "--filter", 0, "--filter", -0.6, "--filtered", tmp_path]
    arguments += ["--thickness", 2]
    assert run_command(yardsticks.main, [str(a) for a in arguments]) == 0
    content = json.loads(result.read_text())
    plain, soft = content["runs"]
    assert [(r["scan"], r["filter"], r["pixels"]) for r in (plain, soft)] == [
        ("scan.nii.gz", 0.0, 2 * 64 * 64),
        ("scan.nii.gz", -0.6, 2 * 64 * 64),
    ]
    assert plain["thickness_mm"] == soft["thickness_mm"] == 2
    names = [*yardsticks.fitted_models(torch.zeros(1, 3, 8, 8), 12, 1), "midpoint", "model"]
    assert list(plain["bits_per_pixel"]) == names
    told = capsys.readouterr().out
    assert f"| model          | {soft['bits_per_pixel']['model']:.3f} " in told

    written = tmp_path / "scan-filter-0.6.nrrd"
    source = load_volume(scan)
    np.testing.assert_array_equal(
        load_volume(written).slices, yardsticks.prepared(source, -0.6, TINY)
    )
    assert load_volume(written).image.GetOrigin() == source.image.GetOrigin()

    crops = yardsticks.tiles(source.slices, 300, TINY).numpy()
    thickness, bits = np.full((1, 1, 1, 1), 2 / (2 * 1.25), np.float32), []
    for above, target, below in crops[:, :, None, None]:
        found = ArrayNetwork(network)(Neighbours(above, below, thickness), target[0, 0])
        bits.append(-mixture.log_probability(found, to_levels(target[0, 0], 12), 12).mean())
    assert plain["bits_per_pixel"]["model"] == pytest.approx(np.mean(bits) / math.log(2), abs=1e-3)


def test_script_without_scans(
    yardsticks: Any, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    network = PixelMiner(TINY)
    checkpoint = tmp_path / "checkpoint.pt"
    torch.save({"hyperparameters": TINY.to_json(), "averaged": network.state_dict()}, checkpoint)
    arguments = ["--data", empty, "--validation", scan, "--model", checkpoint]
    assert run_command(yardsticks.main, [str(a) for a in arguments]) == 3
    assert f"{empty} holds no scan" in capsys.readouterr().err
