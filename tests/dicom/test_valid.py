"""Derived series before an independent validator and two other readers."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

import pmtool
from pmtool.loading import load_volume
from pmtool.phantom.chest import chest_phantom

pytestmark = [
    pytest.mark.usefixtures("fake_sampler"),
    pytest.mark.filterwarnings("ignore:the slices of .* are 5 mm thick"),
]
MIDDLE, LAST = slice(240, 272), "027.dcm"


@pytest.fixture
def phantom(tmp_path: Path, write_dicom: Callable[..., list[Path]]) -> Path:
    """Four slices of the phantom with no more in their headers than a reader needs."""
    voxels = sitk.GetArrayFromImage(chest_phantom(size=32, slices=4))
    write_dicom(tmp_path / "in", np.maximum(voxels, -1024))
    return tmp_path / "in"


@pytest.fixture(scope="module")
def crop(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The middle of four slices of a real scan, with their whole headers."""
    folder = tmp_path_factory.mktemp("crop")
    with tarfile.open(shared("dicom/Lung_Dx-A0001.tar.xz"), "r|xz") as archive:
        for member in archive:
            path = Path(member.name)
            file = archive.extractfile(member) if path.parent.name == "kernel-L" else None
            if file is None or path.name > LAST:
                continue
            slice_ = dcmread(BytesIO(file.read()))
            cropped = np.ascontiguousarray(slice_.pixel_array[MIDDLE, MIDDLE])
            slice_.Rows, slice_.Columns = cropped.shape
            slice_.PixelData = cropped.tobytes()
            slice_.save_as(folder / path.name)
    return folder


@pytest.fixture
def real(crop: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(crop, tmp_path / "in")
    return tmp_path / "in"


@pytest.fixture
def oblique(phantom: Path) -> Path:
    """The phantom's slices turned about all axes, and stacked towards the feet."""
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 2.5).GetMatrix()
    columns = np.round(np.array(turn).reshape(3, 3), 8)
    for path in phantom.iterdir():
        slice_ = dcmread(path)
        normal = np.cross(columns[:, 0], columns[:, 1])
        slice_.ImageOrientationPatient = [f"{x:.8f}" for x in columns[:, :2].T.ravel()]
        depth = 2.5 * slice_.InstanceNumber
        slice_.ImagePositionPatient = [f"{x:.8f}" for x in (100, -50, 30) - depth * normal]
        slice_.save_as(path)
    return phantom


@pytest.fixture(params=["phantom", "oblique", "real"])
def source(request: pytest.FixtureRequest) -> Path:
    """Either of them."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture
def derived(source: Path, tmp_path: Path) -> Path:
    """The folder of the resampled series."""
    pmtool.resample(source, itk(source).GetSpacing()[2] / 2, f"{tmp_path / 'out'}/")
    return tmp_path / "out"


def itk(folder: Path) -> sitk.Image:
    """As SimpleITK's GDCM reads and sorts it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image: sitk.Image = reader.Execute()
    return image


def program(name: str, *arguments: object) -> str:
    """All that a program says."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    command = [name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return done.stdout + done.stderr


def test_dciodvfy_finds_no_error(derived: Path) -> None:
    for path in derived.iterdir():
        told = program("dciodvfy", path)
        assert told.splitlines().count("CTImage") == 1
        assert "Error" not in told
        assert "Abort" not in told


def test_dcentvfy_finds_patient_study_and_series_consistent(source: Path, derived: Path) -> None:
    """With the source too, unless that lacks what a series must have."""
    valid = "PatientName" in dcmread(next(source.iterdir()))
    assert program("dcentvfy", *derived.iterdir(), *(source.iterdir() if valid else ())) == ""


def test_simpleitk_reads_the_same(source: Path, derived: Path) -> None:
    before, after = itk(source), itk(derived)
    size, spacing = before.GetSize(), before.GetSpacing()
    assert after.GetSize() == (*size[:2], 2 * size[2] - 1)
    assert after.GetSpacing() == pytest.approx((*spacing[:2], spacing[2] / 2))
    assert after.GetOrigin() == before.GetOrigin()
    assert after.GetDirection() == before.GetDirection()
    assert after.GetPixelID() == before.GetPixelID() == sitk.sitkInt16
    voxels, acquired = sitk.GetArrayFromImage(after), sitk.GetArrayFromImage(before)
    np.testing.assert_array_equal(voxels[::2], acquired)
    mean = (acquired[1:].astype(int) + acquired[:-1]) // 2
    np.testing.assert_array_equal(voxels[1::2], mean)


def test_pmtool_reads_the_same(derived: Path) -> None:
    volume, expected = load_volume(derived), itk(derived)
    assert volume.image.GetSpacing() == pytest.approx(expected.GetSpacing())
    assert volume.image.GetOrigin() == expected.GetOrigin()
    np.testing.assert_array_equal(volume.slices, sitk.GetArrayFromImage(expected))


def test_dcmtk_reads_the_same(derived: Path, tmp_path: Path) -> None:
    expected = itk(derived)
    pixels = tmp_path / "pixels"
    pixels.mkdir()
    for index, path in enumerate(sorted(derived.iterdir())):
        told = program("dcmdump", "+L", "+W", pixels, path)
        raw = next(pixels.iterdir())
        stored = np.fromfile(raw, "<u2").reshape(expected.GetSize()[1::-1])
        raw.unlink()
        hounsfield = stored * number(told, "RescaleSlope")[0] + number(told, "RescaleIntercept")[0]
        np.testing.assert_array_equal(hounsfield, sitk.GetArrayFromImage(expected[:, :, index]))
        place = expected.TransformIndexToPhysicalPoint((0, 0, index))
        assert number(told, "ImagePositionPatient") == pytest.approx(place)
        assert number(told, "PixelSpacing") == pytest.approx(expected.GetSpacing()[1::-1])


def test_dcmtk_renders_it(derived: Path, tmp_path: Path) -> None:
    name = "dcm2img" if shutil.which("dcm2img") else "dcmj2pnm"
    for path in derived.iterdir():
        picture = tmp_path / "picture.pgm"
        program(name, "+Wm", "--write-8-bit-pnm", path, picture)
        assert picture.read_bytes()[:2] in (b"P2", b"P5")
        picture.unlink()


def number(told: str, keyword: str) -> list[float]:
    """The decimal string of an attribute in what dcmdump tells."""
    (line,) = (line for line in told.splitlines() if line.endswith(f" {keyword}"))
    return [float(text) for text in line.split("[")[1].split("]")[0].split("\\")]


class TestStructureSet:
    """An RTSTRUCT of the source is left alone and fits the new series."""

    @pytest.fixture
    def contour(self, source: Path) -> NDArray[np.float64]:
        """Points ``(N, 3)`` on a pixel's corners in the third slice, mm."""
        image = itk(source)
        indices = [(5, 7, 2), (9, 7, 2), (9, 12, 2)]
        return np.array([image.TransformIndexToPhysicalPoint(i) for i in indices])

    def test_it_refers_to_the_new_frame(
        self, source: Path, derived: Path, contour: NDArray[Any], tmp_path: Path
    ) -> None:
        path = structure_set(source, contour, tmp_path / "rtstruct.dcm")
        structures = dcmread(path)
        slices = [dcmread(file, stop_before_pixels=True) for file in derived.iterdir()]
        frame = structures.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
        assert {slice_.FrameOfReferenceUID for slice_ in slices} == {frame}
        study = structures.StudyInstanceUID
        assert {slice_.StudyInstanceUID for slice_ in slices} == {study}
        data = structures.ROIContourSequence[0].ContourSequence[0].ContourData
        points = np.array(data, dtype=float).reshape(-1, 3)
        before, after = itk(source), itk(derived)
        for point in points:
            old = before.TransformPhysicalPointToIndex(point.tolist())
            new = after.TransformPhysicalPointToIndex(point.tolist())
            assert new == (*old[:2], 2 * old[2])
            assert after[new] == before[old]

    def test_beside_the_source_it_is_no_image(
        self, source: Path, contour: NDArray[Any], tmp_path: Path
    ) -> None:
        structure_set(source, contour, source / "rtstruct.dcm")
        before = (source / "rtstruct.dcm").read_bytes()
        pmtool.resample(source, itk(source).GetSpacing()[2] / 2, f"{tmp_path / 'again'}/")
        assert (source / "rtstruct.dcm").read_bytes() == before
        assert len(list((tmp_path / "again").iterdir())) == 7


def structure_set(source: Path, points: NDArray[np.float64], path: Path) -> Path:
    """One closed contour in the source's frame of reference."""
    image = dcmread(next(source.iterdir()), stop_before_pixels=True)
    structures, frame, roi, outline, contour = (Dataset() for _ in range(5))
    structures.SOPClassUID, structures.SOPInstanceUID = RTStructureSetStorage, "1.2.9"
    structures.Modality, structures.SeriesInstanceUID = "RTSTRUCT", "1.2.8"
    structures.PatientID, structures.StudyInstanceUID = image.PatientID, image.StudyInstanceUID
    frame.FrameOfReferenceUID = image.FrameOfReferenceUID
    structures.ReferencedFrameOfReferenceSequence = [frame]
    roi.ROINumber, roi.ROIName = 1, "lesion"
    roi.ReferencedFrameOfReferenceUID = image.FrameOfReferenceUID
    structures.StructureSetROISequence = [roi]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    contour.ContourData = [f"{x:.6f}" for x in points.ravel()]
    outline.ReferencedROINumber, outline.ContourSequence = 1, [contour]
    structures.ROIContourSequence = [outline]
    structures.ensure_file_meta()
    structures.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    structures.save_as(path, enforce_file_format=True)
    return path
