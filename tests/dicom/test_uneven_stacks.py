"""DICOM series with uneven gaps, resampled; averages stand in for the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

import pmtool
from pmtool.choices import GRIDS, GridName
from pmtool.cli.console import run_command
from pmtool.errors import GeometryError
from pmtool.images.reading import ReadingOptions
from pmtool.loading import load_volume
from pmtool.main import cli
from pmtool.resampling.segmentation import load_mask

pytest.importorskip("pydicom")
pytestmark = [
    pytest.mark.usefixtures("fake_sampler"),
    pytest.mark.filterwarnings("ignore:.*gaps between slices are not"),
    pytest.mark.filterwarnings("ignore:slices will be generated at"),
    pytest.mark.filterwarnings("ignore:.*does not meet them"),
]

PLACES = (0, 2.5, 5, 10, 12.5, 22.5, 25)
"""Of slices 2.5 mm apart, of which one is missing and then three."""
KEPT = [0, 2, 4, 8, 10, 18, 20]
"""Their indices at 1.25 mm."""


def voxels(image: sitk.Image) -> NDArray[Any]:
    return sitk.GetArrayFromImage(image)


@pytest.fixture
def slices() -> NDArray[np.int16]:
    return np.random.default_rng(5).integers(-1000, 1000, (7, 12, 10)).astype(np.int16)


@pytest.fixture
def write(
    tmp_path: Path, slices: NDArray[np.int16], write_dicom: Callable[..., Any]
) -> Callable[[tuple[float, ...]], Path]:
    """Write the slices at places, mm, as a series; returns its folder."""

    def write_at(places: tuple[float, ...]) -> Path:
        def move(number: int, dataset: Any) -> None:
            dataset.ImagePositionPatient = [-11.0, 7.5, -300.25 + places[number]]

        write_dicom(tmp_path / "series", slices[: len(places)], change=move)
        return tmp_path / "series"

    return write_at


@pytest.fixture
def folder(write: Callable[..., Path]) -> Path:
    return write(PLACES)


def test_uneven_slices_are_refused_unless_allowed(folder: Path) -> None:
    with pytest.raises(GeometryError, match="--allow-uneven"):
        pmtool.resample(folder, 1.25)


def test_acquired_slices_stay_where_they_are(folder: Path, slices: NDArray[np.int16]) -> None:
    with pytest.warns(UserWarning, match=r"2 of 6 gaps .* 5 mm after slice 2, 10 mm after slice 4"):
        image = pmtool.resample(folder, 1.25, allow_uneven=True)
    found = voxels(image).astype(int)
    assert len(found) == 21
    assert np.array_equal(found[KEPT], slices)
    assert image.GetOrigin() == (-11.0, 7.5, -300.25)
    middle = (found[10] + found[18]) // 2
    assert np.array_equal(found[14], middle)
    assert np.array_equal(found[12], (found[10] + middle) // 2)
    assert np.array_equal(found[11], (found[10] + found[12]) // 2)


def test_the_sidecar_tells_how_gaps_were_filled(write: Callable[..., Path], tmp_path: Path) -> None:
    folder = write((0, 2, 8, 10, 12, 14, 17.4))
    with pytest.warns(UserWarning, match="does not meet them$"):
        pmtool.resample(folder, 2.0, tmp_path / "out.nrrd", allow_uneven=True)
    told = json.loads((tmp_path / "out.nrrd.json").read_text())
    assert told["input"]["uneven_positions_mm"] == pytest.approx([0, 2, 8, 10, 12, 14, 17.4])
    three, more = told["grid"]["odd_gaps"]
    assert three["pair"] == [1, 2]
    assert three["slice_distances"] == pytest.approx(3)
    assert three["halvings"] == 2
    assert three["counts"] == {"interpolated": 2}
    assert more["pair"] == [5, 6]
    assert more["mm"] == pytest.approx(3.4)
    assert more["counts"] == {"interpolated": 1}
    assert [entry["position_mm"] for entry in told["slices"]] == list(range(0, 18, 2))
    assert [entry["kind"] for entry in told["slices"]] == [
        *["acquired"] * 2,
        *["interpolated"] * 2,
        *["acquired"] * 4,
        "interpolated",
    ]
    assert told["slices"][2]["pair"] == told["slices"][3]["pair"] == [1, 2]
    assert told["slices"][4]["source"] == 2


def test_a_finer_stack_extends_a_coarser_one(folder: Path) -> None:
    missing, half, quarter = (
        voxels(pmtool.resample(folder, spacing, allow_uneven=True))
        for spacing in (2.5, 1.25, 0.625)
    )
    assert np.array_equal(quarter[::2], half)
    assert np.array_equal(half[::2], missing)


@pytest.mark.parametrize("grid", GRIDS)
def test_companions_share_the_grid(folder: Path, tmp_path: Path, grid: GridName) -> None:
    labels = np.zeros((7, 12, 10), np.uint8)
    labels[:, :, 3] = np.arange(7)[:, None]
    mask = sitk.GetImageFromArray(labels)
    mask.CopyInformation(load_volume(folder, ReadingOptions(allow_uneven=True)).image)
    mask.SetSpacing((0.7, 0.7, 25 / 6))  # as readers write it that know the two ends alone
    sitk.WriteImage(mask, str(tmp_path / "mask.nrrd"))
    files: dict[str, Any] = {
        "uncertainty": tmp_path / "sd.nrrd",
        "segmentation": tmp_path / "mask.nrrd",
        "segmentation_out": tmp_path / "mask_out.nrrd",
        "preview": tmp_path / "look.png",
        "statistics": tmp_path / "statistics.json",
    }
    out = tmp_path / "out.nrrd"
    image = pmtool.resample(folder, 1.25, out, allow_uneven=True, grid=grid, samples=3, **files)
    kinds = [entry["kind"] for entry in json.loads(Path(f"{out}.json").read_text())["slices"]]
    deviation = sitk.ReadImage(str(files["uncertainty"]))
    found = sitk.ReadImage(str(files["segmentation_out"]))
    for other in (deviation, found):
        assert other.GetSize() == image.GetSize()
        assert other.GetSpacing() == image.GetSpacing()
        assert other.GetOrigin() == image.GetOrigin()
    for kind, plane in zip(kinds, voxels(deviation), strict=True):
        assert plane.any() == (kind in ("synthesised", "interpolated"))
    first = image.GetOrigin()[2] + 300.25
    distances = abs(first + 1.25 * np.arange(len(kinds))[:, None] - np.array(PLACES))
    for label, near in zip(voxels(found)[:, 0, 3], distances, strict=True):
        assert near[label] == pytest.approx(near.min())
    statistics = json.loads(files["statistics"].read_text())
    assert [row["kind"] for row in statistics["slices"]] == kinds


def test_the_preview_shows_slices_where_they_lie(
    write: Callable[..., Path], slices: NDArray[np.int16], tmp_path: Path
) -> None:
    slices[:] = np.arange(-1000, -300, 100)[:, None, None]
    options: dict[str, Any] = {"allow_uneven": True, "preview": tmp_path / "look.png"}
    pmtool.resample(write(PLACES), 1.25, tmp_path / "out.nrrd", **options)
    with Image.open(tmp_path / "look.png") as picture:
        rows = np.asarray(picture)[8 + 16 :, 10].astype(int)  # below margin and caption
    (jumps,) = np.nonzero(np.diff(rows))
    pixels_a_mm = round(400 / 12) / 0.7
    middles = [(one + other) / 2 for one, other in pairwise(PLACES)]
    expected = sorted((PLACES[-1] + 1.25 - middle) * pixels_a_mm for middle in middles)
    assert jumps[: len(middles)] == pytest.approx(expected, abs=0.2 * pixels_a_mm)


def test_an_interrupted_run_goes_on(folder: Path, tmp_path: Path, fake_sampler: Any) -> None:
    out = tmp_path / "out.nrrd"
    expected = voxels(pmtool.resample(folder, 0.625, allow_uneven=True))
    calls = len(fake_sampler.calls)
    fake_sampler.calls.clear()
    fake_sampler.interrupt_after = 9
    with pytest.raises(KeyboardInterrupt):
        pmtool.resample(folder, 0.625, out, allow_uneven=True)
    fake_sampler.interrupt_after = None
    pmtool.resample(folder, 0.625, out, allow_uneven=True, resume=True)
    assert calls == len(set(fake_sampler.calls))
    assert np.array_equal(voxels(sitk.ReadImage(str(out))), expected)


def test_a_reference_chooses_slices(folder: Path) -> None:
    whole = pmtool.resample(folder, 1.25, allow_uneven=True)
    reference = whole[:, :, 5:16]
    result = pmtool.resample(folder, reference=reference, allow_uneven=True)
    assert np.array_equal(voxels(result), voxels(reference))
    assert result.GetOrigin() == pytest.approx(reference.GetOrigin())


def test_a_mask_takes_the_slices_one_by_one(folder: Path, tmp_path: Path) -> None:
    volume = load_volume(folder, ReadingOptions(allow_uneven=True))
    mask = sitk.Cast(volume.image > 0, sitk.sitkUInt8)
    sitk.WriteImage(mask[:, :, :6], str(tmp_path / "short.nrrd"))
    with pytest.raises(GeometryError, match="another grid"):
        load_mask(tmp_path / "short.nrrd", volume)


def test_dicom_out_is_even(folder: Path, tmp_path: Path) -> None:
    image = pmtool.resample(folder, 1.25, f"{tmp_path}/even/", allow_uneven=True)
    found = load_volume(tmp_path / "even")
    assert found.positions is None
    assert found.spacing == pytest.approx(1.25)
    assert found.image.GetOrigin() == image.GetOrigin()
    assert np.array_equal(found.slices, voxels(image))


def test_itks_even_image_of_uneven_slices_is_refused(folder: Path, tmp_path: Path) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    sitk.WriteImage(reader.Execute(), str(tmp_path / "ct.nrrd"))
    with pytest.raises(GeometryError, match="give their DICOM files"):
        pmtool.resample(tmp_path / "ct.nrrd", 1.25)
    as_even = pmtool.resample(tmp_path / "ct.nrrd", 1.25, allow_uneven=True)
    assert as_even.GetSize()[2] == 21


def test_command_line(
    folder: Path, tmp_path: Path, slices: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["resample", "--spacing", "1.25", str(folder), str(tmp_path / "out.nii.gz")]
    assert run_command(cli, arguments) == 4
    assert "--allow-uneven" in capsys.readouterr().err
    assert run_command(cli, [*arguments, "--allow-uneven"]) == 0
    assert "2 of 6 gaps between slices are not 2.5 mm" in capsys.readouterr().err
    assert np.array_equal(voxels(sitk.ReadImage(str(tmp_path / "out.nii.gz")))[KEPT], slices)
