"""`pmtool.resample` with averages in place of a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

import pmtool
from pmtool.cli.console import run_command
from pmtool.errors import (
    ContentError,
    GeometryError,
    MemoryBudgetError,
    OutputError,
    PmtoolError,
    UsageError,
)
from pmtool.main import cli
from pmtool.phantom.chest import chest_phantom
from pmtool.resampling.options import UNCERTAINTY_SAMPLES, Outputs

pytestmark = pytest.mark.usefixtures("fake_sampler")


def voxels(image: sitk.Image) -> NDArray[Any]:
    return sitk.GetArrayFromImage(image)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_acquired_slices_are_bit_identical(ct: sitk.Image, dtype: Any) -> None:
    values = voxels(ct).astype(dtype)
    values[1, 0, 0], values[2, 0, 0] = -3024, 9000
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(ct)
    result = pmtool.resample(image, 1.25)
    found = voxels(result)
    assert result.GetSpacing() == (0.7, 0.7, 1.25)
    assert result.GetOrigin() == ct.GetOrigin()
    assert found.dtype == dtype
    assert found.shape == (9, 12, 10)
    assert np.array_equal(found[::2], values)
    expected = (voxels(ct)[:-1].astype(int) + voxels(ct)[1:]) // 2
    assert np.array_equal(found[1::2, 1:], expected[:, 1:])
    assert np.all(found == np.rint(found))


def test_paths_and_images_give_the_same(ct: sitk.Image, ct_path: Path) -> None:
    assert np.array_equal(
        voxels(pmtool.resample(ct_path, 1.25)), voxels(pmtool.resample(ct, (0, 0, 1.25)))
    )


@pytest.mark.parametrize(
    "spacing", [np.float32(1.25), np.array(1.25), np.array([0, 0, 1.25]), [1.25]]
)
def test_spacings_of_numpy(ct: sitk.Image, spacing: Any) -> None:
    assert pmtool.resample(ct, spacing).GetSpacing() == (0.7, 0.7, 1.25)


@pytest.mark.parametrize("output", [".", "..", "./", "/"])
def test_outputs_without_a_name(ct: sitk.Image, output: str) -> None:
    with pytest.raises(UsageError, match="is not a name for an output"):
        pmtool.resample(ct, 1.25, output)


def test_two_rounds_extend_one(ct: sitk.Image, fake_sampler: Any) -> None:
    coarse = voxels(pmtool.resample(ct, 1.25))
    numbers = set(fake_sampler.calls)
    fine = voxels(pmtool.resample(ct, 0.625))
    assert np.array_equal(fine[::2], coarse)
    assert numbers < set(fake_sampler.calls)
    assert (3 << 16) + (1 << 14) in fake_sampler.calls


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1)])
def test_slices_along_other_axes(ct: sitk.Image, order: tuple[int, int, int]) -> None:
    back = [order.index(axis) for axis in range(3)]
    turned = pmtool.resample(sitk.PermuteAxes(ct, order), 1.25)
    found = sitk.PermuteAxes(turned, back)
    assert found.GetSpacing() == (0.7, 0.7, 1.25)
    assert np.array_equal(voxels(found)[::2], voxels(ct))


def test_other_spacings_are_interpolated_and_told(ct: sitk.Image) -> None:
    with pytest.warns(UserWarning, match=r"keep-slices at 1\.25 mm"):
        found = voxels(pmtool.resample(ct, 2.0, interpolator="linear"))
    dyadic = voxels(pmtool.resample(ct, 1.25)).astype(float)
    assert found.shape[0] == 6
    assert np.array_equal(found[0], dyadic[0])
    assert np.array_equal(found[1], np.rint(0.4 * dyadic[1] + 0.6 * dyadic[2]))


def test_samples_keep_their_texture_at_other_spacings(ct: sitk.Image, tmp_path: Path) -> None:
    out = tmp_path / "out.nrrd"
    with pytest.warns(UserWarning, match=r"nearest acquired or generated ones, at most 0\.5 mm"):
        found = voxels(pmtool.resample(ct, 2.0, out))
    dyadic = voxels(pmtool.resample(ct, 1.25))
    assert np.array_equal(found, dyadic[[0, 2, 3, 5, 6, 8]])
    entries = json.loads(Path(f"{out}.json").read_text())["slices"]
    assert [x.get("shift_mm") for x in entries] == [None, 0.5, -0.25, 0.25, -0.5, None]
    kinds = ["acquired", "shifted", "interpolated", "interpolated", "shifted", "acquired"]
    assert [x["kind"] for x in entries] == kinds
    assert [x.get("source") for x in entries] == [0, 1, None, None, 3, 4]
    assert [x.get("pair") for x in entries] == [None, None, [1, 2], [2, 3], None, None]


@pytest.mark.filterwarnings("ignore:.*does not meet them")
def test_an_acquired_slice_that_is_the_nearest_is_shifted_as_it_is(
    ct: sitk.Image, tmp_path: Path
) -> None:
    ct[3, 4, 2], ct[0:4, :, :] = 8000, -2048
    out = tmp_path / "out.nrrd"
    files: dict[str, Any] = {
        "uncertainty": tmp_path / "sd.nrrd",
        "statistics": tmp_path / "statistics.json",
    }
    found = voxels(pmtool.resample(ct, 1.7, out, **files))
    assert np.array_equal(found[3], voxels(ct)[2])
    content = json.loads(Path(f"{out}.json").read_text())
    assert content["grid"]["counts"] == {"acquired": 1, "interpolated": 4, "shifted": 1}
    assert content["slices"][3] == {
        "index": 3,
        "kind": "shifted",
        "position": pytest.approx(2.04),
        "position_mm": 5.1,
        "shift_mm": -0.1,
        "source": 2,
    }
    deviation = voxels(sitk.ReadImage(str(files["uncertainty"])))
    assert [plane.any() for plane in deviation] == [False, True, True, False, True, True]
    assert "shifted" in json.loads(files["statistics"].read_text())["by_kind"]


@pytest.mark.filterwarnings("ignore:.*does not meet them")
def test_the_other_modes_have_no_texture_to_keep(ct: sitk.Image) -> None:
    for mode in ("median", "mean"):
        with pytest.warns(UserWarning, match="between generated ones"):
            found = pmtool.resample(ct, 2.0, mode=mode)
        linear = pmtool.resample(ct, 2.0, mode=mode, interpolator="linear")
        assert np.array_equal(voxels(found), voxels(linear))


def test_padding_survives(ct: sitk.Image) -> None:
    ct[0:4, :, :] = -2048
    found = voxels(pmtool.resample(ct, 0.625))
    assert np.all(found[:, :, :4] == -2048)
    assert np.all(found[:, :, 4:] >= -1024)


def test_ibsi_grid_repeats_the_ends(ct: sitk.Image) -> None:
    result = pmtool.resample(ct, 1.25, grid="ibsi")
    assert result.GetSize()[2] == 10
    assert result.GetOrigin()[2] == pytest.approx(ct.GetOrigin()[2] - 0.625)
    assert np.array_equal(voxels(result)[0], voxels(ct)[0])
    assert np.array_equal(voxels(result)[-1], voxels(ct)[-1])


def test_reference(ct: sitk.Image) -> None:
    reference = pmtool.resample(ct, 1.25)[:, :, 1:6]
    result = pmtool.resample(ct, reference=reference)
    assert result.GetSpacing() == reference.GetSpacing()
    assert result.GetOrigin() == pytest.approx(reference.GetOrigin())
    assert np.array_equal(voxels(result), voxels(reference))
    reference.SetOrigin((0, 0, 0))
    with pytest.raises(GeometryError, match="in-plane"):
        pmtool.resample(ct, reference=reference)


def test_a_reference_whose_last_pixels_are_elsewhere() -> None:
    ct = chest_phantom(size=256, slices=3, spacing=(1.4, 1.4, 2.5))
    reference = sitk.Image(ct)
    reference.SetSpacing((1.4 * 1.0001, 1.4, 2.5))  # as rounded in a header
    pmtool.resample(ct, reference=reference)
    reference.SetSpacing((1.4 * 1.0009, 1.4, 2.5))
    with pytest.raises(GeometryError, match="in-plane"):
        pmtool.resample(ct, reference=reference)


def test_references_in_other_directions(ct: sitk.Image, tmp_path: Path) -> None:
    sagittal = sitk.DICOMOrient(pmtool.resample(ct, 1.25), "PIR")
    for number, other in enumerate(
        (sagittal, ct[:, :, ::-1], ct[::-1], sitk.PermuteAxes(ct, (1, 0, 2)))
    ):
        path = tmp_path / f"{number}.nrrd"
        sitk.WriteImage(other, str(path))
        with pytest.raises(GeometryError, match=f"{path.name} has other directions than the image"):
            pmtool.resample(ct, reference=path)


def test_all_outputs(ct: sitk.Image, ct_path: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    sitk.WriteImage(sitk.Cast(ct > 0, sitk.sitkUInt8), str(mask))
    files: dict[str, Any] = {
        "uncertainty": tmp_path / "sd.mha",
        "segmentation": mask,
        "segmentation_out": tmp_path / "mask_out.nii.gz",
        "preview": tmp_path / "look.png",
        "statistics": tmp_path / "statistics.json",
    }
    outputs = Outputs(tmp_path / "out.nrrd", **files)
    result = pmtool.resample(ct_path, 1.25, outputs.image, samples=3, **files)
    assert all(path.stat().st_size for path in outputs.files())
    assert not outputs.journal.exists()
    assert np.array_equal(voxels(sitk.ReadImage(str(outputs.image))), voxels(result))
    deviation = voxels(sitk.ReadImage(str(outputs.uncertainty)))
    assert deviation.dtype == np.float32
    assert np.all(deviation[::2] == 0)
    assert np.all(deviation[1::2] == 1)
    assert voxels(sitk.ReadImage(str(outputs.segmentation_out))).shape == (9, 12, 10)
    with Image.open(tmp_path / "look.png") as picture:
        assert min(picture.size) > 100
    content = json.loads((tmp_path / "statistics.json").read_text())
    assert set(content["by_kind"]) == {"acquired", "synthesised"}


@pytest.mark.parametrize(
    ("out", "suffix"), [("out.nii.gz", ".nii.gz"), ("a.b.nrrd", ".nrrd"), ("dicom/", ".nrrd")]
)
def test_companions_that_are_not_named(
    tmp_path: Path, write_dicom: Any, out: str, suffix: str
) -> None:
    """The mask and the uncertainty are written beside the output."""
    source, mask = tmp_path / "in", tmp_path / "mask.nrrd"
    values = np.random.default_rng(0).integers(-1000, 1000, (4, 12, 10)).astype(np.int16)
    write_dicom(source, values)
    volume = pmtool.resample(source, 2.5)
    sitk.WriteImage(sitk.Cast(volume > 0, sitk.sitkUInt8), str(mask))
    pmtool.resample(source, 1.25, f"{tmp_path}/{out}", samples=2, segmentation=mask)
    name = out.rstrip("/").removesuffix(suffix)
    for kind in ("mask", "uncertainty"):
        made = sitk.ReadImage(str(tmp_path / f"{name}.{kind}{suffix}"))
        assert made.GetSize() == (10, 12, 7)


def test_an_uncertainty_without_a_number_of_samples(
    ct_path: Path, tmp_path: Path, fake_sampler: Any
) -> None:
    arguments = ["--spacing", "1.25", str(ct_path), str(tmp_path / "out.nrrd")]
    command = ["resample", *arguments, "--uncertainty", str(tmp_path / "sd.nrrd")]
    assert run_command(cli, command) == 0
    assert len(fake_sampler.calls) == UNCERTAINTY_SAMPLES * 4
    fake_sampler.calls.clear()
    pmtool.resample(ct_path, 1.25, tmp_path / "2.nrrd", uncertainty=tmp_path / "sd 2.nrrd")
    assert len(fake_sampler.calls) == UNCERTAINTY_SAMPLES * 4


def test_numbers_of_numpy(ct_path: Path, tmp_path: Path) -> None:
    """As they come out of a table; the sidecar has plain ones."""
    out, sd = tmp_path / "out.nrrd", tmp_path / "sd.nrrd"
    samples, seed, thickness = np.int64(2), np.int32(3), np.float64(2.5)
    values: dict[str, Any] = {"samples": samples, "seed": seed, "thickness": thickness}
    pmtool.resample(ct_path, 1.25, out, uncertainty=sd, **values)
    told = json.loads(Path(f"{out}.json").read_text())
    assert (told["options"]["seed"], told["options"]["thickness"]) == (3, 2.5)


def test_sidecar(ct_path: Path, tmp_path: Path) -> None:
    pmtool.resample(ct_path, 1.25, tmp_path / "out.nrrd", seed=7)
    content = json.loads((tmp_path / "out.nrrd.json").read_text())
    assert content["seed"] == 7
    assert content["model"]["sha256"] == "0" * 64
    assert content["input"]["name"] == "ct.nrrd"
    assert content["grid"]["name"] == "keep-slices"
    assert content["slices"][3] == {
        "index": 3,
        "kind": "synthesised",
        "position": 1.5,
        "position_mm": 3.75,
        "pair": [1, 2],
    }
    assert content["slices"][4]["source"] == 2


def test_spacing_outside_the_models_range(ct: sitk.Image) -> None:
    ct.SetSpacing((0.7, 0.7, 8.0))
    with pytest.warns(UserWarning, match="4 mm, outside"):
        pmtool.resample(ct, 4.0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"spacing": 0}, UsageError),
        ({"spacing": (0, 0, 0)}, UsageError),
        ({"spacing": (0.5, 0.7, 1.25)}, UsageError),
        ({"spacing": (1, 2)}, UsageError),
        ({"spacing": 5}, UsageError),
        ({}, UsageError),
        ({"spacing": 1, "grid": "else"}, UsageError),
        ({"spacing": 1, "seed": -1}, UsageError),
        ({"spacing": 1, "seed": 1.5}, UsageError),
        ({"spacing": 1, "seed": None}, UsageError),
        ({"spacing": "thin"}, UsageError),
        ({"spacing": 1, "samples": 2}, UsageError),
        ({"spacing": 1, "threads": 0}, UsageError),
        ({"spacing": 1, "memory": "4G"}, UsageError),
        ({"spacing": 1, "window": "64"}, UsageError),
        ({"spacing": 1, "batch": 2.0}, UsageError),
        ({"spacing": 1, "memory": 10}, MemoryBudgetError),
    ],
)
def test_what_cannot_be_met(ct: sitk.Image, options: Any, error: type[PmtoolError]) -> None:
    with pytest.raises(error):
        pmtool.resample(ct, **options)


def test_what_is_no_input_or_output() -> None:
    with pytest.raises(UsageError, match="ndarray is not an input"):
        pmtool.resample(np.zeros((4, 8, 8)), 1.25)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="segmentation must be the path of a file, not Image"):
        pmtool.resample("ct.nrrd", 1.25, "out.nrrd", segmentation=sitk.Image([8, 8, 4], 1))
    with pytest.raises(UsageError, match="output must be the path of a file, not int"):
        pmtool.resample("ct.nrrd", 1.25, 5)  # type: ignore[arg-type]
    with pytest.raises(ContentError, match="label map"):
        pmtool.resample(sitk.Image([64, 64, 4], sitk.sitkLabelUInt16), 1.25)


@pytest.mark.parametrize("name", ["advise_series_uid", "advise_allow_uneven", "unadvised"])
def test_what_is_no_option(ct: sitk.Image, name: str) -> None:
    options: dict[str, Any] = {name: False}
    with pytest.raises(TypeError, match=name):
        pmtool.resample(ct, 1.25, **options)


def test_images_that_no_file_can_be(ct: sitk.Image) -> None:
    assert pmtool.resample(sitk.Compose(ct), 1.25).GetPixelID() == ct.GetPixelID()
    with pytest.raises(UsageError, match="is empty"):
        pmtool.resample("", 1.25)
    ct.SetOrigin((0, np.nan, 0))
    with pytest.raises(GeometryError, match="not finite"):
        pmtool.resample(ct, 1.25)


def test_content_that_is_not_ct(ct: sitk.Image) -> None:
    with pytest.raises(ContentError):
        pmtool.resample(sitk.Cast(ct > 0, sitk.sitkInt16), 1.25)
    with pytest.raises(ContentError):
        pmtool.resample(sitk.Cast(ct > 0, sitk.sitkUInt8), 1.25, assume_hu=True)


def test_outputs_that_cannot_be_written(ct_path: Path, tmp_path: Path) -> None:
    (tmp_path / "there.nrrd").touch()
    for output, more in (
        ("there.nrrd", {}),
        ("ct.nrrd", {"overwrite": True}),
        ("none/out.nrrd", {}),
        ("out.nrrd", {"statistics": str(tmp_path / "out.nrrd.json")}),
    ):
        with pytest.raises(OutputError):
            pmtool.resample(ct_path, 1.25, tmp_path / output, **more)
    with pytest.raises(UsageError, match="output="):
        pmtool.resample(ct_path, 1.25, preview="look.png")
    with pytest.raises(UsageError, match="format"):
        pmtool.resample(ct_path, 1.25, tmp_path / "out.xyz")
    assert {p.name for p in tmp_path.iterdir()} == {"ct.nrrd", "there.nrrd"}


@pytest.mark.parametrize("spacing", [2.5, (0.7, 0.7, 0)])
def test_equal_spacing_generates_nothing(ct: sitk.Image, fake_sampler: Any, spacing: Any) -> None:
    assert np.array_equal(voxels(pmtool.resample(ct, spacing)), voxels(ct))
    assert fake_sampler.calls == []
