"""Enhanced CT: many frames in a file, with functional groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset, uid

from pmtool.cli.console import run_command
from pmtool.errors import GeometryError, InputError
from pmtool.loading import load_volume
from pmtool.main import cli

ORDER = [3, 0, 4, 1, 2]
"""Of the slices in the file."""


@pytest.fixture
def voxels() -> NDArray[np.int16]:
    return np.random.default_rng(4).integers(-1000, 1000, (5, 36, 40)).astype(np.int16)


def hounsfield(source: Path) -> NDArray[Any]:
    values: NDArray[Any] = sitk.GetArrayFromImage(load_volume(source).image)
    return values


def group(**values: Any) -> list[Dataset]:
    """A functional group: a sequence of one item."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return [item]


def enhanced(
    voxels: NDArray[np.int16], slopes: list[float] | None = None, phases: int = 1
) -> Dataset:
    """An image whose frames are out of order; with slopes, every frame has its own rescale."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = uid.EnhancedCTImageStorage, uid.UID("1.2.3.1")
    image.Modality, image.PatientID, image.SeriesInstanceUID = "CT", "Doe", "1.2.3"
    image.SeriesDescription, image.InstanceNumber = "Enhanced", 1
    image.NumberOfFrames = phases * len(voxels)
    image.Rows, image.Columns = voxels.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence = group(PixelSpacing=[0.7, 0.8], SliceThickness=3)
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    if slopes is None:
        shared.PixelValueTransformationSequence = group(RescaleSlope=1, RescaleIntercept=-1024)
    for phase in range(phases):
        for index in ORDER:
            frame = Dataset()
            frame.FrameContentSequence = group(TemporalPositionIndex=phase + 1)
            place = [1, 2.5 * index, 3]
            frame.PlanePositionSequence = group(ImagePositionPatient=place)
            if slopes is not None:
                values = {"RescaleSlope": slopes[index], "RescaleIntercept": -1024}
                frame.PixelValueTransformationSequence = group(**values)
            frames.append(frame)
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = frames
    stored = (voxels[ORDER] + 1024).astype("<u2")
    image.PixelData = b"".join((stored + phase).tobytes() for phase in range(phases))
    image.ensure_file_meta()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    return image


@pytest.fixture
def file(voxels: Any, tmp_path: Path) -> Path:
    path = tmp_path / "enhanced"
    enhanced(voxels).save_as(path, enforce_file_format=True)
    return path


def test_frames_in_order_of_their_positions(voxels: Any, file: Path, tmp_path: Path) -> None:
    """The file, a folder with it, and another reader."""
    for source in (file, tmp_path):
        np.testing.assert_array_equal(hounsfield(source), voxels)
    image = load_volume(file).image
    assert image.GetSpacing() == pytest.approx((0.8, 0.7, 2.5))
    assert image.GetOrigin() == (1, 0, 3)
    assert np.array(image.GetDirection()).reshape(3, 3).T.tolist() == [
        [1, 0, 0],
        [0, 0, -1],
        [0, 1, 0],
    ]
    other = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    np.testing.assert_array_equal(other, voxels[ORDER])


def test_headers_are_those_of_the_frames(file: Path) -> None:
    headers = load_volume(file).headers
    assert headers is not None
    assert [ORDER[header.InstanceNumber - 1] for header in headers] == [0, 1, 2, 3, 4]
    assert [header.ImagePositionPatient[1] for header in headers] == [0, 2.5, 5, 7.5, 10]
    for header in headers:
        assert (header.SeriesDescription, header.SliceThickness) == ("Enhanced", 3)
        assert header.RescaleIntercept == -1024
        assert not {"PixelData", "PerFrameFunctionalGroupsSequence"} & set(header.dir())


def test_rescale_of_every_frame(voxels: Any, tmp_path: Path) -> None:
    slopes = [1.0, 2.0, 3.0, 1.0, 4.0]
    enhanced(voxels // 8, slopes).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    expected = (voxels // 8 + 1024) * np.array(slopes, int)[:, None, None] - 1024
    np.testing.assert_array_equal(hounsfield(tmp_path), expected)


@pytest.mark.parametrize(
    ("syntax", "encoder"),
    [
        (uid.JPEG2000Lossless, "openjpeg"),
        (uid.JPEGLSLossless, "jpeg_ls"),
        (uid.RLELossless, "numpy"),
    ],
    ids=["JPEG2000Lossless", "JPEGLSLossless", "RLELossless"],
)
def test_compressed_frames(syntax: uid.UID, encoder: str, voxels: Any, file: Path) -> None:
    pytest.importorskip(encoder)
    image = pydicom.dcmread(file)
    image.compress(syntax)
    image.save_as(file)
    np.testing.assert_array_equal(hounsfield(file), voxels)


def test_frames_that_are_missing(file: Path) -> None:
    image = pydicom.dcmread(file)
    del image.PerFrameFunctionalGroupsSequence[2:]
    image.save_as(file)
    with pytest.raises(InputError, match=f"{file} is a damaged DICOM file"):
        load_volume(file)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("told", [4, 6])
def test_another_number_of_frames_than_told(told: int, compressed: bool, file: Path) -> None:
    image = pydicom.dcmread(file)
    if compressed:
        image.compress(uid.RLELossless)
    image.NumberOfFrames = told
    image.save_as(file)
    with pytest.raises(InputError, match=f"{file} is a damaged DICOM file"):
        load_volume(file)


def test_phases_in_a_file(voxels: Any, file: Path) -> None:
    enhanced(voxels, phases=2).save_as(file, enforce_file_format=True)
    told = r"2 different images at 0 mm, which differ in TemporalPositionIndex \(1, 2\)"
    with pytest.raises(GeometryError, match=told):
        load_volume(file)


@pytest.mark.usefixtures("fake_sampler")
def test_resampled(voxels: Any, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nrrd"
    arguments = ["resample", "--spacing", "1.25", str(file), str(out)]
    assert run_command(cli, arguments) == 0
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(out)))[::2], voxels)
