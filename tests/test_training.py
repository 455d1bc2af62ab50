"""Training can stop at any step and go on as if it had not."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from pmtool.errors import InputError
from pmtool.export.bundle import load_checkpoint
from pmtool.hyperparameters import Hyperparameters
from pmtool.phantom import chest_phantom
from pmtool.training.crops import Crops
from pmtool.training.run import CHECKPOINT, LOG, Run, Settings

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Hyperparameters(channels=2, mixtures=1)
SETTINGS = Settings(
    steps=6, patches=1, warmup=2, averaging=0.5, dropout=0.5, every=2, validation_patches=8
)
SIZE = 16


class InterruptedCrops(Crops):
    """Crops whose reader is interrupted at the fourth step."""

    def batch(self, count: int, seed: Sequence[int], *, flip: bool = True) -> NDArray[np.float32]:
        if seed[1] == 3:
            raise KeyboardInterrupt
        return super().batch(count, seed, flip=flip)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for name, slices in (("a.nrrd", 4), ("b.nii.gz", 6)):
        rng = np.random.default_rng(slices)
        voxels = rng.integers(-1200, 3300, (slices, 20, 24)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / name))
    return folder


def train(folder: Path, crops: Crops, validation: Crops) -> Run:
    folder.mkdir(exist_ok=True)
    run = Run(folder, TINY, SETTINGS)
    run.train(crops, validation)
    return run


def test_interrupted_run_gives_the_same_weights(scans: Path, tmp_path: Path) -> None:
    crops = Crops(scans, TINY, SIZE)
    whole = train(tmp_path / "whole", crops, crops)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "resumed", InterruptedCrops(scans, TINY, SIZE), crops)
    resumed = Run(tmp_path / "resumed", TINY, SETTINGS)
    assert resumed.step == 2
    resumed.train(crops, crops)
    assert resumed.step == whole.step == SETTINGS.steps
    for one, other in ((whole.network, resumed.network), (whole.averaged, resumed.averaged)):
        for name, tensor in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    logs = [(tmp_path / name / LOG).read_text().splitlines() for name in ("whole", "resumed")]
    rows = [[{**row, "seconds": ""} for row in csv.DictReader(log)] for log in logs]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == ["2", "4", "6"]


def test_a_finished_run_is_left_alone(scans: Path, tmp_path: Path) -> None:
    crops = Crops(scans, TINY, SIZE)
    train(tmp_path, crops, crops)
    before = (tmp_path / CHECKPOINT).read_bytes()
    train(tmp_path, crops, crops)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_checkpoint_holds_the_averaged_network(scans: Path, tmp_path: Path) -> None:
    crops = Crops(scans, TINY, SIZE)
    run = train(tmp_path, crops, crops)
    network = load_checkpoint(tmp_path / CHECKPOINT)
    assert network.hyperparameters == TINY
    assert not network.training
    averaged = run.averaged.module.state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, averaged[name], rtol=0, atol=0)
    plain = run.network.state_dict()
    assert any((tensor != plain[name]).any() for name, tensor in averaged.items())


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / CHECKPOINT
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        load_checkpoint(path)


def test_training_learns_a_phantom(tmp_path: Path) -> None:
    sitk.WriteImage(chest_phantom(64, 5, (5.0, 5.0, 1.25)), str(tmp_path / "phantom.nrrd"))
    crops = Crops(tmp_path, TINY, 32)
    run = Run(tmp_path, TINY, replace(SETTINGS, steps=30, every=30, dropout=0.0))
    before = run.evaluate(crops)
    run.train(crops, crops)
    assert run.evaluate(crops) < before - 0.1


def test_crops_are_a_function_of_the_seed(scans: Path) -> None:
    one, other = Crops(scans, TINY, SIZE), Crops(scans, TINY, SIZE)
    batch = one.batch(6, (1, 2))
    one.batch(2, (9, 9))
    np.testing.assert_array_equal(other.batch(6, (1, 2)), batch)
    np.testing.assert_array_equal(one.batch(6, (1, 2)), batch)
    assert (one.batch(6, (1, 3)) != batch).any()
    assert batch.shape == (6, 3, SIZE, SIZE)
    assert batch.dtype == np.float32
    assert (batch.min(), batch.max()) == (-1, 1)


def test_crops_are_consecutive_slices(tmp_path: Path) -> None:
    voxels = np.arange(5, dtype=np.int16)[:, None, None].repeat(20, 1).repeat(20, 2)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "steps.mha"))
    crops = Crops(tmp_path, TINY, SIZE).batch(20, (0,))
    slices = np.rint((crops + 1) / 2 * 4095 - 1024)
    assert (slices == slices[:, :, :1, :1]).all()
    steps = np.diff(slices[:, :, 0, 0], axis=1)
    assert (np.abs(steps) == 1).all()
    assert (steps[:, 0] == steps[:, 1]).all()
    assert set(steps.ravel()) == {-1, 1}  # flipped or not


def test_folder_without_scans(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no scan .* was found"):
        Crops(tmp_path, TINY)


def test_scan_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    path.write_bytes(b"NRRD0004\n")
    with pytest.raises(InputError, match=f"{path} cannot be read"):
        Crops(tmp_path, TINY, SIZE)
    for shape in ((2, 20, 20), (5, 20, 15), (20, 20)):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, np.int16)), str(path))
        with pytest.raises(InputError, match="is no volume of at least 16x16x3"):
            Crops(tmp_path, TINY, SIZE)
