"""Slices in order of their positions, and stacks that are refused."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset
from scipy.spatial.transform import Rotation

from pmtool.dicom.geometry import image_planes, is_even
from pmtool.errors import GeometryError, MemoryBudgetError
from pmtool.images.reading import ReadingOptions
from pmtool.images.volume import Volume
from pmtool.loading import load_volume

Writer = Callable[..., list[Path]]
Change = Callable[[int, Dataset], None]


@pytest.fixture
def voxels() -> NDArray[np.int16]:
    return np.random.default_rng(2).integers(-1000, 1000, (6, 12, 10)).astype(np.int16)


def hounsfield(volume: Volume) -> NDArray[Any]:
    values: NDArray[Any] = sitk.GetArrayFromImage(volume.image)
    return values


def shifted(*by: float, slices: range) -> Change:
    """Move some slices, mm."""

    def change(number: int, slice_: Dataset) -> None:
        if number in slices:
            place = np.array(slice_.ImagePositionPatient, float) + by
            slice_.ImagePositionPatient = place.tolist()

    return change


def test_order_and_place(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    """As another reader sees them; thickness, numbers and names say nothing."""

    def change(number: int, slice_: Dataset) -> None:
        slice_.InstanceNumber, slice_.SliceLocation = 5 * number % 7, -number
        slice_.SliceThickness = slice_.SpacingBetweenSlices = 9

    write_dicom(tmp_path, voxels, spacing=1.25, change=change, PixelSpacing=[0.7, 0.9])
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(hounsfield(volume), voxels)
    assert volume.image.GetSpacing() == pytest.approx((0.9, 0.7, 1.25))
    assert volume.image.GetOrigin() == (-11.0, 7.5, -300.25)
    assert volume.axis == 2
    assert volume.positions is None
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    other = sitk.ReadImage(names)
    assert other.GetOrigin() == volume.image.GetOrigin()
    assert other.GetDirection() == volume.image.GetDirection()


@pytest.mark.parametrize("axes", ["axial", "coronal", "sagittal", "upside down", "oblique"])
def test_any_orientation(axes: str, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    rotations: dict[str, list[float]] = {
        "axial": [0, 0, 0],
        "coronal": [-90, 0, 0],
        "sagittal": [-90, 90, 0],
        "upside down": [180, 0, 0],
        "oblique": [20, -30, 50],
    }
    matrix = Rotation.from_euler("xyz", rotations[axes], degrees=True).as_matrix()

    def change(number: int, slice_: Dataset) -> None:
        slice_.ImageOrientationPatient = [f"{x:.8f}" for x in matrix[:, :2].T.ravel()]
        slice_.ImagePositionPatient = [f"{x:.6f}" for x in 2.5 * number * matrix[:, 2]]

    write_dicom(tmp_path, voxels, change=change)
    volume = load_volume(tmp_path)
    np.testing.assert_array_equal(hounsfield(volume), voxels)
    assert volume.direction == pytest.approx(matrix, abs=1e-7)
    assert volume.image.GetSpacing() == pytest.approx((0.7, 0.7, 2.5))


def test_headers_are_those_of_the_slices(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    write_dicom(tmp_path, voxels, PatientComments="none")
    headers = load_volume(tmp_path).headers
    assert headers is not None
    assert [header.InstanceNumber for header in headers] == [1, 2, 3, 4, 5, 6]
    assert all("PixelData" not in header for header in headers)
    assert headers[0].PatientComments == "none"
    assert headers[0].SOPInstanceUID == "1.2.3.1"


def test_rounded_positions_are_even(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    def change(number: int, slice_: Dataset) -> None:
        slice_.ImagePositionPatient = [0, 0, f"{0.625 * number:.1f}"]

    write_dicom(tmp_path, voxels, change=change)
    volume = load_volume(tmp_path)
    assert volume.positions is None
    assert volume.spacing == pytest.approx(3.1 / 5)


class TestUneven:
    def test_missing_slices(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        for file in write_dicom(tmp_path, voxels)[1:3]:
            file.unlink()
        with pytest.raises(GeometryError) as caught:
            load_volume(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path} is unevenly spaced: its slices are 2.5 mm apart but for 1 gap: 7.5 mm "
            "(3x) after -300.2 mm; copy missing slices, or take slices where they lie by "
            "--allow-uneven"
        )
        volume = load_volume(tmp_path, ReadingOptions(allow_uneven=True))
        np.testing.assert_array_equal(hounsfield(volume), voxels[[0, 3, 4, 5]])
        assert volume.positions == (0, 7.5, 10, 12.5)
        assert volume.spacing == 2.5
        assert volume.headers is not None
        assert len(volume.headers) == 4

    def test_every_gap_is_named(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        write_dicom(tmp_path, voxels, change=shifted(0, 0, 1.5, slices=range(2, 6)))
        with pytest.raises(GeometryError, match=r"1 gap: 4 mm \(1.6x\) after -297.8 mm;"):
            load_volume(tmp_path)
        write_dicom(tmp_path, voxels, change=shifted(0, 0, 1, slices=range(2, 3)))
        with pytest.raises(GeometryError, match=r"2 gaps: 3.5 mm \(1.4x\) .*, 1.5 mm \(0.6x\) "):
            load_volume(tmp_path)

    def test_even_stacks_are_even_when_uneven_is_allowed(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        write_dicom(tmp_path, voxels)
        assert load_volume(tmp_path, ReadingOptions(allow_uneven=True)).positions is None

    @given(
        st.integers(3, 300),
        st.floats(0.2, 10),
        st.floats(-1e4, 1e4),
        st.lists(st.floats(-0.04, 0.04), min_size=300, max_size=300),
    )
    def test_noise_of_positions(
        self, number: int, distance: float, first: float, noise: list[float]
    ) -> None:
        places = np.arange(number) + np.array(noise[:number])
        depths = np.asarray(first + distance * places, np.float64)
        assert is_even(depths)
        depths[number // 2 :] += 0.5 * distance
        assert not is_even(depths)


class TestRefused:
    @pytest.mark.parametrize("degrees", [2.0, -12.5])
    def test_tilted_gantry(
        self, degrees: float, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        tilted = [1, 0, 0, 0, f"{cosine:.8f}", f"{sine:.8f}"]
        write_dicom(tmp_path, np.concatenate([voxels] * 4), ImageOrientationPatient=tilted)
        told = rf"tilted gantry \({abs(degrees)} degrees\)"
        for allow_uneven in (False, True):
            with pytest.raises(GeometryError, match=told):
                load_volume(tmp_path, ReadingOptions(allow_uneven=allow_uneven))

    def test_slices_shifted_in_their_plane(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        write_dicom(tmp_path, voxels, change=shifted(0, 0.3, 0, slices=range(2, 4)))
        assert load_volume(tmp_path).headers is not None
        write_dicom(tmp_path, voxels, change=shifted(0, 3, 0, slices=range(2, 4)))
        with pytest.raises(GeometryError, match="shifted against each other by up to 3 mm"):
            load_volume(tmp_path)

    @pytest.mark.parametrize("slices", [1, 2, 6])
    @pytest.mark.parametrize("others", [0, 1])
    def test_images_beside_each_other(
        self, slices: int, others: int, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        """At the same depths, whether their pixels are the same or not."""
        write_dicom(tmp_path / "a", voxels)
        beside = shifted(3, 0, 0, slices=range(6))
        write_dicom(tmp_path / "b", voxels[:slices] + others, change=beside)
        with pytest.raises(GeometryError, match="shifted against each other by up to 3 mm"):
            load_volume(tmp_path)

    def test_a_single_slice_in_two_places(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        write_dicom(tmp_path, voxels[:2], 0, change=shifted(0, 3, 0, slices=range(1)))
        with pytest.raises(GeometryError, match="shifted against each other by up to 3 mm"):
            load_volume(tmp_path)

    @pytest.mark.parametrize(
        ("keyword", "value", "told"),
        [
            ("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], "are not parallel"),
            ("PixelSpacing", [0.8, 0.7], r"have pixels of 0.7 x 0.7 to 0.8 x 0.7 mm"),
            ("PixelSpacing", [0, 0], "for every slice where it lies"),
            ("Rows", 6, "have 10x6, 10x12 pixels"),
            ("ImagePositionPatient", None, r"for every slice where it lies \(ImagePositionP"),
            ("ImagePositionPatient", [0, 0], "for every slice where it lies"),
            ("ImageOrientationPatient", None, "for every slice where it lies"),
            ("PixelSpacing", None, "for every slice where it lies"),
        ],
    )
    def test_a_slice_unlike_the_others(
        self,
        keyword: str,
        value: Any,
        told: str,
        voxels: Any,
        tmp_path: Path,
        write_dicom: Writer,
    ) -> None:
        def change(number: int, slice_: Dataset) -> None:
            if number == 3:
                setattr(slice_, keyword, value)

        write_dicom(tmp_path, voxels, change=change)
        with pytest.raises(GeometryError, match=told):
            load_volume(tmp_path)

    def test_axes_at_no_right_angle(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        write_dicom(tmp_path, voxels, ImageOrientationPatient=[1, 0, 0, 0.5, 0.8, 0])
        with pytest.raises(GeometryError, match="not at right angles"):
            load_volume(tmp_path)

    def test_a_single_slice(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        (file,) = write_dicom(tmp_path, voxels[:1])
        with pytest.raises(GeometryError, match="has a single slice"):
            load_volume(tmp_path)
        with pytest.raises(GeometryError, match="is a single slice; give the folder"):
            load_volume(file)


class TestRepeats:
    def test_sizes_are_judged_before_pixels_are_compared(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = write_dicom(tmp_path / "a", voxels)
        shutil.copy(files[2], tmp_path / "copy of a file.dcm")
        monkeypatch.setattr("pmtool.system.limits.MAX_INPUT", 2 * voxels.size)
        monkeypatch.setattr("pmtool.dicom.stack.read_images", lambda *_: pytest.fail("read"))
        with pytest.raises(MemoryBudgetError, match="--allow-large"):
            load_volume(tmp_path)

    def test_copies_are_dropped(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        files = write_dicom(tmp_path / "a", voxels)
        shutil.copy(files[2], tmp_path / "copy of a file.dcm")
        again = pydicom.dcmread(files[4])
        again.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        again.save_as(tmp_path / "the same in other bytes.dcm")
        with pytest.warns(UserWarning, match=r"repeats 2 images \(same position, same v"):
            volume = load_volume(tmp_path)
        np.testing.assert_array_equal(hounsfield(volume), voxels)

    @pytest.mark.parametrize(
        ("keyword", "values"),
        [
            ("AcquisitionNumber", (1, 2)),
            ("TemporalPositionIdentifier", (1, 2)),
            ("NominalPercentageOfCardiacPhase", (40.0, 70.0)),
            ("ConvolutionKernel", ("B30f", "B70f")),
            ("ContentTime", ("120000", "120005")),
        ],
    )
    def test_two_stacks_in_a_series(
        self, keyword: str, values: Any, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        for number, value in enumerate(values):
            write_dicom(tmp_path / str(number), voxels + number, **{keyword: value})
        told = rf"2 different images at -300.2 mm, which differ in {keyword} \({values[0]}, "
        with pytest.raises(GeometryError, match=told):
            load_volume(tmp_path)

    def test_different_pixels_alone(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        for number in range(2):
            write_dicom(tmp_path / str(number), voxels + number)
        with pytest.raises(GeometryError, match="which differ in their pixels alone"):
            load_volume(tmp_path)


class TestSeveralScans:
    """Slices of two scans that lie midway between each other make an even stack."""

    @pytest.mark.parametrize(
        ("keyword", "values"),
        [
            ("AcquisitionNumber", (1, 2)),
            ("ConvolutionKernel", ("B30f", ["B70f", "3"])),
            ("KVP", (100, 140)),
            ("SliceThickness", (2.5, 5)),
        ],
    )
    def test_slices_by_turns_are_warned_of(
        self, keyword: str, values: Any, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        for number, value in enumerate(values):
            shift = shifted(0, 0, 1.25 * number, slices=range(3))
            more = {keyword: value, "SeriesInstanceUID": "1.2.3"}
            write_dicom(tmp_path / str(number), voxels[number::2], change=shift, **more)
        with pytest.warns(UserWarning, match=rf"change to and fro in {keyword} \("):
            volume = load_volume(tmp_path)
        np.testing.assert_array_equal(hounsfield(volume), voxels)

    def test_rotations_are_one_scan(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        def change(number: int, slice_: Dataset) -> None:
            slice_.AcquisitionNumber = 9 - number // 2 if number != 3 else None

        write_dicom(tmp_path, voxels, change=change, ConvolutionKernel="B30f")
        load_volume(tmp_path)


def test_slightly_skewed_cosines_are_repaired() -> None:
    header = Dataset()
    header.ImagePositionPatient, header.PixelSpacing = [0, 0, 0], [1, 1]
    header.ImageOrientationPatient = [1, 0.005, 0, 0, 1, 0]
    with pytest.warns(UserWarning, match="skewed"):
        planes = image_planes([header], "it")
    assert planes.direction.T @ planes.direction == pytest.approx(np.eye(3), abs=1e-9)
    header.ImageOrientationPatient = [1, 0.00005, 0, 0, 1, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image_planes([header], "it")
