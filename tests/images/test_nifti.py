"""NIfTI files as other tools write them, by nibabel."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

import pmtool
from pmtool.cli.console import run_command
from pmtool.errors import GeometryError
from pmtool.images.image_file import read_image
from pmtool.images.silence import permit_skewed_nifti, quiet_itk
from pmtool.main import cli

OBLIQUE = np.array(
    [[-0.7, 0, 0, 10], [0, -0.56, -1.5, 20], [0, -0.42, 2.0, 30], [0, 0, 0, 1]], dtype=float
)
VOXELS = np.random.default_rng(0).integers(-1000, 1000, (10, 12, 5)).astype(np.int16)


def write(
    path: Path,
    qform: NDArray[Any] | None = OBLIQUE,
    sform: NDArray[Any] | None = OBLIQUE,
    codes: tuple[int, int] = (1, 1),
) -> Path:
    image = nibabel.Nifti1Image(VOXELS, OBLIQUE)
    image.set_qform(qform, 0 if qform is None else codes[0])
    image.set_sform(sform, 0 if sform is None else codes[1])
    nibabel.save(image, path)
    return path


@pytest.mark.usefixtures("fake_sampler")
@pytest.mark.parametrize("forms", ["both", "qform", "sform"])
def test_whichever_transform_there_is(tmp_path: Path, forms: str) -> None:
    qform, sform = (None if forms == other else OBLIQUE for other in ("sform", "qform"))
    source = write(tmp_path / "in.nii.gz", qform, sform)
    pmtool.resample(source, 1.25, tmp_path / "out.nii.gz")
    found = nibabel.load(tmp_path / "out.nii.gz")
    assert isinstance(found, nibabel.Nifti1Image)
    halved = OBLIQUE @ np.diag([1, 1, 0.5, 1])
    for matrix, code in (found.get_qform(coded=True), found.get_sform(coded=True)):
        assert matrix == pytest.approx(halved, abs=1e-5)
        assert code == 1
    assert found.shape == (10, 12, 9)
    assert np.array_equal(np.asarray(found.dataobj)[:, :, ::2], VOXELS)


def test_two_spacings_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", None, OBLIQUE @ np.diag([1, 1, 2, 1]))
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 88, 2.5)  # pixdim[3]
    path.write_bytes(content)
    with pytest.raises(GeometryError, match=r"2\.5 mm as pixdim and 0\.7 x 0\.7 x 5 mm"):
        read_image(path)


def test_two_places_are_told(tmp_path: Path) -> None:
    moved = OBLIQUE + 100 * np.eye(4, 4, 3) * [0, 0, 0, 1]
    path = write(tmp_path / "a.nii", OBLIQUE, moved, (1, 2))
    with pytest.warns(UserWarning, match="the qform is taken"):
        image = read_image(path)
    assert image.GetOrigin() == pytest.approx((-10, -20, 30))


def test_a_volume_without_a_place_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", None, None)
    with pytest.warns(UserWarning, match=r"\(qform_code and sform_code are 0\); axes to the left"):
        image = read_image(path)
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert image.GetOrigin() == (0, 0, 0)


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("skew", [0.002, 0.01])
def test_a_sheared_sform_that_is_not_taken_is_told(
    tmp_path: Path, codes: tuple[int, int], skew: float
) -> None:
    sheared = OBLIQUE.copy()
    sheared[1, 0] += 0.7 * skew
    path = write(tmp_path / "a.nii", OBLIQUE, sheared, codes)
    with pytest.warns(UserWarning, match="the qform is taken"):
        image = read_image(path)
    assert image.GetDirection()[::3][:2] == pytest.approx((1, 0), abs=1e-6)


def test_a_tilted_gantry_in_the_sform_alone_is_refused(tmp_path: Path) -> None:
    tilted = OBLIQUE.copy()
    tilted[:3, 2] += 0.1 * OBLIQUE[:3, 1]
    with pytest.raises(GeometryError, match="not at right angles"):
        read_image(write(tmp_path / "a.nii", OBLIQUE, tilted))


def test_a_repaired_sform_is_told_once(tmp_path: Path) -> None:
    skewed = OBLIQUE.copy()
    skewed[1, 0] += 0.7 * 0.018
    with pytest.warns(UserWarning, match="skewed") as told:
        read_image(write(tmp_path / "a.nii", None, skewed))
    assert ["skewed" in str(w.message) for w in told] == [True]


@pytest.mark.parametrize("tilt", [1e-5, 3e-4, 5e-4])
def test_a_rounded_quaternion_is_no_other_place(tmp_path: Path, tilt: float) -> None:
    """NIfTI's library takes a small first number of it for 0."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0, 0, np.pi - tilt]).as_matrix()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(write(tmp_path / "a.nii", turn @ OBLIQUE, turn @ OBLIQUE, (1, 2)))


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "expected"),
    [
        (np.int16, 1, 0, np.int16),
        (np.uint16, 1, -1024, np.int16),
        (np.int16, 2, -1000, np.int16),
        (np.int16, 64, 0, np.int32),
        (np.uint8, 8, -1024, np.int16),
        (np.int32, 1, -1024, np.int16),
        (np.int16, 0.5, 0, np.float32),
        (np.int16, 1, 0.25, np.float32),
        (np.int16, 0, 7, np.int16),
        (np.int16, np.nan, 7, np.int16),
        (np.float32, 2, -1024, np.float32),
        (np.float32, 0, 7, np.float32),
        (np.float64, np.nan, -7, np.float64),
    ],
)
def test_scaled_values(
    tmp_path: Path, stored: Any, slope: float, intercept: float, expected: Any
) -> None:
    values = np.abs(VOXELS) // 8 if stored == np.uint8 else np.abs(VOXELS)
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(values.astype(stored), OBLIQUE), path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, slope, intercept)
    path.write_bytes(content)
    found = sitk.GetArrayFromImage(read_image(path)).transpose(2, 1, 0)
    other = nibabel.load(path)
    assert isinstance(other, nibabel.Nifti1Image)
    assert found.dtype == expected
    assert np.array_equal(found, other.get_fdata())


def test_several_volumes_in_one_file(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), OBLIQUE), tmp_path / "a.nii")
    with pytest.raises(GeometryError, match=r"image\[:, :, :, 0\]"):
        read_image(tmp_path / "a.nii")


@pytest.mark.usefixtures("fake_sampler")
def test_repairs_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    skewed = OBLIQUE.copy()
    skewed[1, 0] += 0.004
    source = write(tmp_path / "in.nii", None, skewed)
    arguments = ["resample", "--spacing", "1.25", str(source), str(tmp_path / "out.nii")]
    assert run_command(cli, arguments) == 0
    assert "warning: slightly skewed" in capfd.readouterr().err


def test_a_setting_of_the_user_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITK_NIFTI_SFORM_PERMISSIVE", "0")
    with quiet_itk():
        permit_skewed_nifti()
    assert os.environ["ITK_NIFTI_SFORM_PERMISSIVE"] == "0"
