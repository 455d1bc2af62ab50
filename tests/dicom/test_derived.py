"""What a derived DICOM series says, with averages in place of a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

import pmtool
from pmtool.cli.console import run_command
from pmtool.dicom import attributes
from pmtool.errors import InputError
from pmtool.loading import load_volume
from pmtool.main import cli

pytestmark = pytest.mark.usefixtures("fake_sampler")
Writer = Callable[..., list[Path]]
Resample = Callable[..., list[Dataset]]


@pytest.fixture
def voxels(ct: sitk.Image) -> NDArray[np.int16]:
    return sitk.GetArrayFromImage(ct)


@pytest.fixture
def resampled(
    voxels: NDArray[np.int16], tmp_path: Path, write_dicom: Writer
) -> Callable[..., list[Dataset]]:
    """Write a series, resample it from 2.5 to 1.25 mm, and read what came out in order."""

    def resampled(values: NDArray[Any] = voxels, *, seed: int = 0, **how: Any) -> list[Dataset]:
        if not (tmp_path / "in").exists():
            write_dicom(tmp_path / "in", values, **how)
        out = tmp_path / f"out{len(list(tmp_path.iterdir())) // 2}"
        pmtool.resample(tmp_path / "in", 1.25, f"{out}/", seed=seed)
        return [dcmread(path) for path in sorted(out.iterdir())]

    return resampled


def hospital(number: int, slice_: Dataset) -> None:
    """What hospitals write into their headers."""
    slice_.SpecificCharacterSet = "ISO_IR 192"
    slice_.PatientName, slice_.StudyDate, slice_.AccessionNumber = "Müller^Ünal", "20200229", "A1"
    slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"]
    slice_.SeriesNumber, slice_.SeriesDescription = 4, "Thorax " * 9
    slice_.SeriesDate = slice_.ContentDate = slice_.InstanceCreationDate = "20200301"
    slice_.Manufacturer, slice_.ManufacturerModelName = "ACME", "Scanner"
    slice_.InstitutionName, slice_.DeviceSerialNumber = "St. Elsewhere", "007"
    slice_.KVP, slice_.Exposure, slice_.SliceThickness = 120, 100 + number // 2, 3
    slice_.SliceLocation, slice_.AcquisitionTime = 10.25 - 2.5 * number, f"0813{number:02}"
    slice_.PatientIdentityRemoved, slice_.BurnedInAnnotation = "NO", "NO"
    slice_.WindowCenter, slice_.WindowWidth = [40, -600], [400, 1500]
    slice_.PixelSpacing = [0.7, 0.7]
    slice_.add_new(0x00090010, "LO", "ACME 1")
    slice_.add_new(0x00091001, "LO", "secret")
    slice_.add_new(0x60003000, "OW", bytes(16))
    request = Dataset()
    request.RequestedProcedureID = "R1"
    request.add_new(0x00090010, "LO", "ACME 1")
    request.add_new(0x00091001, "LO", "secret")
    slice_.RequestAttributesSequence = [request]


def hounsfield(slices: Iterable[Dataset]) -> NDArray[Any]:
    return np.stack(
        [s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices]
    )


def test_attributes_exist() -> None:
    groups = [group for group in vars(attributes).values() if isinstance(group, tuple)]
    keywords = [keyword for group in groups for keyword in group]
    assert len(keywords) > 100
    assert all(pydicom.datadict.tag_for_keyword(keyword) for keyword in keywords)


def test_the_study_is_kept_and_the_series_is_new(resampled: Resample, tmp_path: Path) -> None:
    slices = resampled(change=hospital)
    source = dcmread(next((tmp_path / "in").iterdir()))
    assert len({s.SOPInstanceUID for s in slices}) == len(slices) == 9
    for found in slices:
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID"):
            assert found[keyword].value == source[keyword].value
        assert found.AccessionNumber == "A1"
        assert found.PatientIdentityRemoved == found.BurnedInAnnotation == "NO"
        assert found.WindowCenter == [40, -600]
        assert found.RequestAttributesSequence[0].RequestedProcedureID == "R1"
        assert found.SeriesInstanceUID == slices[0].SeriesInstanceUID != source.SeriesInstanceUID
        assert found.SeriesNumber == 1004
        assert found.SeriesDescription.startswith("Thorax")
        assert found.SeriesDescription.endswith(" 1.25 mm pmtool")
        assert len(found.SeriesDescription) <= 64
        for keyword in ("SeriesDate", "ContentDate", "InstanceCreationDate", "InstitutionName"):
            assert keyword not in found


def test_nothing_private_and_no_overlay(resampled: Resample) -> None:
    for found in resampled(change=hospital):
        assert not [e.tag for e in found.iterall() if e.tag.is_private or e.tag.group == 0x6000]


def test_equipment_changes_places(resampled: Resample) -> None:
    found = resampled(change=hospital)[1]
    assert found.Manufacturer == found.ManufacturerModelName == "pmtool"
    assert found.SoftwareVersions == [pmtool.__version__, "0" * 64]
    (scanner,) = found.ContributingEquipmentSequence
    assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("ACME", "Scanner")
    assert (scanner.InstitutionName, scanner.DeviceSerialNumber) == ("St. Elsewhere", "007")
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Acquisition Equipment"


def test_a_derived_series_derived_again(resampled: Resample, tmp_path: Path) -> None:
    resampled(change=hospital)
    with pytest.warns(UserWarning, match="4 of the 9 slices of .*out0 were made by pmtool before"):
        pmtool.resample(tmp_path / "out0", 0.625, f"{tmp_path / 'again'}/")
    told = json.loads((tmp_path / "again.json").read_text())
    assert told["input"]["made_by_pmtool"] == [1, 3, 5, 7]
    found = dcmread(tmp_path / "again" / "0002.dcm")
    scanner, software = found.ContributingEquipmentSequence
    assert (scanner.Manufacturer, software.Manufacturer) == ("ACME", "pmtool")
    assert software.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"
    made = [dcmread(path).ImageType[4:] for path in sorted((tmp_path / "again").iterdir())[:5]]
    assert made == [["ACQUIRED"], ["SYNTHESISED"], ["SYNTHESISED"], ["SYNTHESISED"], ["ACQUIRED"]]


def test_slices_say_what_they_are(resampled: Resample, tmp_path: Path) -> None:
    slices = resampled(change=hospital)
    headers = load_volume(tmp_path / "in").headers
    assert headers is not None
    for index, found in enumerate(slices):
        sources = [s.ReferencedSOPInstanceUID for s in found.SourceImageSequence]
        kind = "SYNTHESISED" if index % 2 else "ACQUIRED"
        assert found.ImageType == ["DERIVED", "SECONDARY", "AXIAL", "HELIX", kind]
        assert found.DerivationDescription.startswith(kind.capitalize())
        assert ("not acquired data. Series" in found.DerivationDescription) == bool(index % 2)
        assert f"pmtool {pmtool.__version__}, model fake" in found.DerivationDescription
        assert "0" * 64 in found.DerivationDescription
        if index % 2:
            assert sources == [h.SOPInstanceUID for h in headers[index // 2 : index // 2 + 2]]
            assert found.DerivationCodeSequence[0].CodeMeaning == "Spatial resampling"
        else:
            assert sources == [headers[index // 2].SOPInstanceUID]
            assert "DerivationCodeSequence" not in found


def test_synthesised_slices_keep_what_both_neighbours_share(resampled: Resample) -> None:
    slices = resampled(change=hospital)
    assert [s.KVP for s in slices] == [120] * 9
    exposures = [100, 100, 100, None, 101, 101, 101, None, 102]
    assert [s.get("Exposure") for s in slices] == exposures
    assert [s.get("AcquisitionTime") for s in slices[:3]] == ["081300", None, "081301"]


def test_places(resampled: Resample) -> None:
    slices = resampled(change=hospital)
    for index, found in enumerate(slices):
        assert found.InstanceNumber == index + 1
        assert found.ImagePositionPatient == pytest.approx([-11, 7.5, -300.25 + 1.25 * index])
        assert found.SliceLocation == pytest.approx(10.25 - 1.25 * index)
        assert (found.SpacingBetweenSlices, found.SliceThickness) == (1.25, 3)


def test_places_that_are_even_for_the_source_alone(
    voxels: NDArray[np.int16], tmp_path: Path, write_dicom: Writer
) -> None:
    """0.2 mm off is within 10 % of 2.5 mm, and not of 0.625 mm; 0.01 mm is within both."""

    def change(number: int, slice_: Dataset) -> None:
        hospital(number, slice_)
        slice_.ImagePositionPatient[2] += (0, 0.2, -0.2, 0.01, 0)[number]

    write_dicom(tmp_path / "in", voxels, change=change)
    made = pmtool.resample(tmp_path / "in", 0.625, f"{tmp_path / 'out'}/")
    slices = [dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    depths = np.array([s.ImagePositionPatient[2] for s in slices])
    expected = -300.25 + 0.625 * np.arange(17)
    expected[12] += 0.01
    np.testing.assert_allclose(depths, expected, atol=1e-6)
    locations = [s.SliceLocation for s in slices]
    np.testing.assert_allclose(locations[4], 10.25 - 2.5 + 0.2, atol=1e-6)
    assert load_volume(tmp_path / "out").image.GetSpacing() == pytest.approx(made.GetSpacing())
    pmtool.resample(tmp_path / "in", 0.625, f"{tmp_path / 'out'}/", resume=True)


def test_enhanced_source(voxels: NDArray[np.int16], tmp_path: Path) -> None:
    """A multi-frame image becomes classic ones that refer to its frames."""
    source, frames = Dataset(), []
    hospital(0, source)
    source.SOPClassUID, source.SOPInstanceUID = pydicom.uid.EnhancedCTImageStorage, "1.2.3.4"
    source.Modality, source.PatientID = "CT", "Doe"
    source.StudyInstanceUID, source.SeriesInstanceUID = "1.2", "1.2.3"
    source.FrameOfReferenceUID, source.NumberOfFrames = "1.2.1", 5
    source.SamplesPerPixel, source.PhotometricInterpretation = 1, "MONOCHROME2"
    source.BitsAllocated, source.BitsStored, source.HighBit = 16, 12, 11
    source.PixelRepresentation, source.Rows, source.Columns = 0, 12, 10
    source.PixelData = (voxels[::-1] + 1024).astype("<u2").tobytes()
    for number in range(5):
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, -2.5 * number]
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    shared, pixel, plane, values = (Dataset() for _ in range(4))
    pixel.PixelSpacing, pixel.SliceThickness = [0.7, 0.7], 3
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [pixel], [plane]
    shared.PixelValueTransformationSequence = [values]
    source.SharedFunctionalGroupsSequence = [shared]
    source.PerFrameFunctionalGroupsSequence = frames
    source.ensure_file_meta()
    source.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    source.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    pmtool.resample(tmp_path / "in.dcm", 1.25, f"{tmp_path / 'out'}/")
    slices = [dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    np.testing.assert_array_equal(hounsfield(slices[::2]), voxels)
    assert [s.ImagePositionPatient[2] for s in slices[:3]] == [-10, -8.75, -7.5]
    assert [i.ReferencedFrameNumber for i in slices[1].SourceImageSequence] == [5, 4]
    assert slices[0].SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    assert slices[0].SOPClassUID == pydicom.uid.CTImageStorage
    assert "PerFrameFunctionalGroupsSequence" not in slices[0]


def test_long_decimals_are_shortened_and_short_ones_kept(
    resampled: Resample, recwarn: pytest.WarningsRecorder
) -> None:
    def change(number: int, slice_: Dataset) -> None:
        slice_.PixelSpacing = ["0.70000000000000001", "0.70"]

    with pydicom.config.disable_value_validation():
        found = resampled(change=change)[1]
    assert [str(x) for x in found.PixelSpacing] == ["0.7", "0.70"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_values_that_break_the_standard(resampled: Resample) -> None:
    """Those of the image are left out, those of patient and study are the source's."""

    def change(number: int, slice_: Dataset) -> None:
        for tag, vr, value in (
            (0x00100020, "LO", b"P" * 70),
            (0x00180060, "DS", b"high"),
            (0x00181152, "IS", b"188.5 "),
            (0x00200011, "IS", b"4.5 "),
            (0x00201041, "DS", b"top "),
            (0x00080008, "CS", b"ORIGINAL"),
        ):
            element = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
            slice_[tag] = element

    for index, found in enumerate(resampled(change=change)):
        assert found.PatientID == "P" * 70
        assert found.KVP is found.SeriesNumber is None
        assert "Exposure" not in found
        assert found.ImageType[3:] == ["SYNTHESISED" if index % 2 else "ACQUIRED"]


@pytest.mark.filterwarnings(
    "ignore:Invalid value for VR UI|.*identifiers that DICOM does not allow"
)
def test_identifiers_that_break_the_standard(
    resampled: Resample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Are kept, as is needed to find the source, with one warning."""

    def change(number: int, slice_: Dataset) -> None:
        slice_.StudyInstanceUID, slice_.SOPInstanceUID = "1.2.anon", f"1.2.anon.{number}"

    first, *_ = resampled(change=change)
    again = ["resample", "--spacing", "1.25", str(tmp_path / "in"), f"{tmp_path / 'again'}/"]
    assert run_command(cli, again) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(told) == 1
    assert "such as 1.2.anon; the output refers to them" in told[0]
    assert first.StudyInstanceUID == "1.2.anon"
    assert first.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.anon.0"


@pytest.mark.filterwarnings("ignore:.*gaps|.*does not meet them")
@pytest.mark.parametrize("uneven", [False, True])
def test_other_grids(uneven: bool, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    def change(number: int, slice_: Dataset) -> None:
        if uneven and number > 2:
            slice_.ImagePositionPatient[2] += 1.25

    write_dicom(tmp_path / "in", voxels, change=change)
    image = pmtool.resample(
        tmp_path / "in", 2.0, f"{tmp_path / 'out'}/", grid="ibsi", allow_uneven=uneven
    )
    slices = [dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    kinds = {s.ImageType[-1] for s in slices}
    assert kinds >= {"EXTRAPOLATED", "INTERPOLATED"}
    np.testing.assert_array_equal(hounsfield(slices), sitk.GetArrayFromImage(image))
    for index, found in enumerate(slices):
        place = image.TransformIndexToPhysicalPoint((0, 0, index))
        assert found.ImagePositionPatient == pytest.approx(place)


@pytest.mark.filterwarnings("ignore:.*does not meet them|.*made by pmtool before")
@pytest.mark.parametrize(
    ("given", "label", "description"),
    [
        ("HELIX", "SHIFTED", "Repeats the nearest acquired slice, not acquired at this position. "),
        ("ACQUIRED", "SHIFTED", "Repeats the nearest acquired slice"),
        ("SYNTHESISED", "SYNTHESISED", "Synthesised between"),
    ],
)
def test_shifted_slices(
    given: str, label: str, description: str, voxels: Any, tmp_path: Path, write_dicom: Writer
) -> None:
    def change(number: int, slice_: Dataset) -> None:
        hospital(number, slice_)
        slice_.ImageType = ["DERIVED", "PRIMARY", "AXIAL", given]

    write_dicom(tmp_path / "in", voxels, change=change)
    pmtool.resample(tmp_path / "in", 1.7, f"{tmp_path / 'out'}/")
    headers = load_volume(tmp_path / "in").headers
    assert headers is not None
    found = dcmread(tmp_path / "out" / "0004.dcm")
    (source,) = found.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == headers[2].SOPInstanceUID
    assert found.ImageType[-1] == label
    assert found.DerivationDescription.startswith(description)
    assert found.DerivationCodeSequence[0].CodeMeaning == "Spatial resampling"
    assert found.ImagePositionPatient[2] == headers[0].ImagePositionPatient[2] + 5.1
    assert found.SliceLocation == pytest.approx(10.25 - 5.1)
    np.testing.assert_array_equal(hounsfield([found])[0], voxels[2])


@pytest.mark.parametrize("keyword", sorted(set(attributes.REQUIRED) - {"SOPInstanceUID"}))
def test_headers_without_identifiers(
    keyword: str, voxels: Any, tmp_path: Path, write_dicom: Writer
) -> None:
    for path in write_dicom(tmp_path / "in", voxels):
        slice_ = dcmread(path)
        del slice_[keyword]
        slice_.save_as(path)
    with pytest.raises(InputError, match=f"without {keyword}; write an image file"):
        pmtool.resample(tmp_path / "in", 1.25, f"{tmp_path / 'out'}/")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("keyword", "other"), [("PatientID", ""), ("PatientName", "Roe^J"), ("StudyInstanceUID", "1.9")]
)
def test_slices_of_several_patients_or_studies(
    keyword: str, other: str, voxels: Any, tmp_path: Path, write_dicom: Writer
) -> None:
    """The series would be filed under the first one's; a volume has neither."""
    for path in write_dicom(tmp_path / "in", voxels)[:1]:
        slice_ = dcmread(path)
        setattr(slice_, keyword, other)
        slice_.save_as(path)
    with pytest.raises(InputError, match=f"differ in their {keyword}, of which a series has one; "):
        pmtool.resample(tmp_path / "in", 1.25, f"{tmp_path / 'out'}/")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_description_of_several_values(resampled: Resample) -> None:
    """A backslash separates them in DICOM."""
    found = resampled(SeriesDescription="LUNG\\B70")
    assert {slice_.SeriesDescription for slice_ in found} == {"LUNG B70 1.25 mm pmtool"}


def test_a_name_in_another_character_set_is_not_changed(
    voxels: Any, tmp_path: Path, write_dicom: Writer
) -> None:
    for path in write_dicom(tmp_path / "in", voxels, SpecificCharacterSet="ISO_IR 192"):
        slice_ = dcmread(path)
        slice_.PatientName = "D\u00f6e^J\u00e4ns".encode("latin-1")
        slice_.save_as(path)
    with pytest.raises(InputError, match="a PatientName that is not in its SpecificCharacterSet"):
        pmtool.resample(tmp_path / "in", 1.25, f"{tmp_path / 'out'}/")
    pmtool.resample(tmp_path / "in", 1.25, tmp_path / "out.nrrd")


def test_identifiers_are_reproducible(resampled: Resample, tmp_path: Path) -> None:
    one, other, third = resampled(), resampled(), resampled(seed=1)
    folders = [tmp_path / f"out{number}" for number in range(3)]
    contents = [[p.read_bytes() for p in sorted(folder.iterdir())] for folder in folders]
    assert contents[0] == contents[1] != contents[2]
    assert one[0].SeriesInstanceUID == other[0].SeriesInstanceUID != third[0].SeriesInstanceUID
    assert not {s.SOPInstanceUID for s in one} & {s.SOPInstanceUID for s in third}
