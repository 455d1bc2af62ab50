"""Finding the series that is meant, among what a hospital exports."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset, uid

import pmtool
from pmtool.cli.console import run_command
from pmtool.errors import ContentError, GeometryError, InputError, UsageError
from pmtool.images.reading import ReadingOptions
from pmtool.loading import load_volume
from pmtool.main import cli

Writer = Callable[..., list[Path]]
B = "1.3.6.1.4.1.14519.5.2.1.6655.2359.213534032021332276911485641315"
L = "1.3.6.1.4.1.14519.5.2.1.6655.2359.257508444832901632590301540805"


@pytest.fixture
def voxels() -> NDArray[np.int16]:
    return np.random.default_rng(2).integers(-1000, 1000, (5, 12, 10)).astype(np.int16)


def hounsfield(source: Path, **options: Any) -> NDArray[Any]:
    values: NDArray[Any] = sitk.GetArrayFromImage(
        load_volume(source, ReadingOptions(**options)).image
    )
    return values


def junk(folder: Path, write_dicom: Writer, voxels: Any) -> None:
    """What goes with a series on a disk."""
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "readme.txt").write_text("Insert the disk")
    (folder / "empty").touch()
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._a.dcm").write_bytes(b"Mac OS X")
    directory = Dataset()
    directory.ensure_file_meta()
    directory.file_meta.MediaStorageSOPClassUID = uid.MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2.9")
    directory.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)
    others = {
        "SR": uid.BasicTextSRStorage,
        "PR": uid.GrayscaleSoftcopyPresentationStateStorage,
        "RTSTRUCT": uid.RTStructureSetStorage,
        "SEG": uid.SegmentationStorage,
        "CT": uid.SecondaryCaptureImageStorage,
    }
    for modality, kind in others.items():
        tags = {"SOPClassUID": kind, "Modality": modality, "SeriesInstanceUID": "1.2.8"}
        write_dicom(folder / modality, voxels[:1], **tags)


class TestSources:
    def test_a_folder_with_all_below_it(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        files = write_dicom(tmp_path / "a", voxels)
        (tmp_path / "a" / "b" / "c").mkdir(parents=True)
        files[0].rename(tmp_path / "IM1")
        files[1].rename(tmp_path / "a" / "b" / "c" / "IM2")
        junk(tmp_path, write_dicom, voxels)
        np.testing.assert_array_equal(hounsfield(tmp_path), voxels)

    @pytest.mark.parametrize("implicit", [True, False])
    @pytest.mark.parametrize("meta", [True, False])
    def test_files_without_preamble_and_suffix(
        self, implicit: bool, meta: bool, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        """As old archives hold them, some with the file's meta information."""
        for file in write_dicom(tmp_path, voxels):
            slice_ = pydicom.dcmread(file)
            slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            if not meta:
                slice_.file_meta = pydicom.dataset.FileMetaDataset()
            elif implicit:
                slice_.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
            slice_.preamble = None
            file.unlink()
            slice_.save_as(file.with_suffix(""), implicit_vr=implicit, little_endian=True)
        np.testing.assert_array_equal(hounsfield(tmp_path), voxels)

    @pytest.mark.parametrize(
        "content",
        [
            b"\b\0" * 300,
            b"\b\0\0\0\4\0\0\0" * 80,
            b"SOP class 1.2.840.10008.5.1.4.1.1.2",
            bytes(range(8, 256)) * 3,
        ],
    )
    def test_other_files_are_not_taken_for_dicom(
        self, content: bytes, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        write_dicom(tmp_path, voxels)
        (tmp_path / "other").write_bytes(content)
        np.testing.assert_array_equal(hounsfield(tmp_path), voxels)

    @pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_a_zip(self, kind: int, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        files = write_dicom(tmp_path / "a", voxels)
        with zipfile.ZipFile(tmp_path / "ct.zip", "w", kind) as archive:
            for file in files:
                archive.write(file, f"DATA/{file.name}")
        volume = load_volume(tmp_path / "ct.zip")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(volume.image), voxels)
        assert volume.name == str(tmp_path / "ct.zip")

    def test_what_is_none(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match=r"holds no CT images.*write a segmentation"):
            load_volume(tmp_path / "empty")
        with pytest.raises(InputError, match="does not exist"):
            load_volume(tmp_path / "none.zip")
        write_dicom(tmp_path / "mr", voxels, SOPClassUID=uid.MRImageStorage, Modality="MR")
        with pytest.raises(ContentError, match="holds images of modality MR, not CT"):
            load_volume(tmp_path / "mr")

    def test_other_modalities_are_passed_by(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        """As in a PET/CT."""
        pet = {"SOPClassUID": uid.PositronEmissionTomographyImageStorage, "Modality": "PT"}
        write_dicom(tmp_path / "pet", voxels // 2, **pet, SeriesInstanceUID="1.2.4")
        write_dicom(tmp_path / "ct", voxels)
        np.testing.assert_array_equal(hounsfield(tmp_path), voxels)

    @pytest.mark.parametrize("content", [b"", b"rubbish", bytes(128) + b"DICM" + bytes(9)])
    def test_damaged_files(
        self, content: bytes, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        """One of them could be the slice that is missing."""
        write_dicom(tmp_path, voxels)
        (tmp_path / "bad.dcm").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.dcm is a damaged DICOM file: copy it again"):
            load_volume(tmp_path)

    def test_what_must_not_be_read(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For root there is no such thing."""
        write_dicom(tmp_path / "a", voxels)[0].rename(tmp_path / "a" / "IM1")
        denied = PermissionError(13, "Permission denied", str(tmp_path / "a" / "IM1"))
        for owner, name in ((Path, "open"), (os, "scandir")):
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, Mock(side_effect=denied))
                with pytest.raises(InputError, match=r"IM1 cannot be read \(Permission denied\)"):
                    load_volume(tmp_path)

    def test_values_that_break_the_standard(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer, recwarn: pytest.WarningsRecorder
    ) -> None:
        """Nobody is told, as long as they do not matter."""
        files = write_dicom(tmp_path, voxels, SliceThickness="1.23456789")
        for file in files:
            content = file.read_bytes().replace(b"1.23456789", b"some of it")
            file.write_bytes(content.replace(b"Doe ", b"\xff\xfe\n "))
        volume = load_volume(tmp_path)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(volume.image), voxels)
        assert not recwarn.list

    @pytest.mark.parametrize(
        ("told", "thickness"),
        [
            ([5] * 5, 5),
            ([1.25, 5, None, 5, 5], 5),
            ([0, -5, None, None, None], 2.5),
            ([None] * 5, 2.5),
        ],
    )
    def test_thickness(
        self,
        told: list[float | None],
        thickness: float,
        voxels: Any,
        tmp_path: Path,
        write_dicom: Writer,
    ) -> None:
        """That of most slices, whatever the files' names, else as thick as they are apart."""

        def tell(number: int, slice_: Any) -> None:
            if told[number] is not None:
                slice_.SliceThickness = told[number]

        write_dicom(tmp_path, voxels, change=tell)
        assert load_volume(tmp_path).thickness == thickness
        assert load_volume(tmp_path, ReadingOptions(thickness=1.25)).thickness == 1.25


class TestSeries:
    def test_several_are_listed(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        soft = {"SeriesDescription": "Thorax soft", "ConvolutionKernel": ["B", "1"]}
        write_dicom(tmp_path / "a", voxels, **soft)
        write_dicom(tmp_path / "a", voxels[:3] // 2, spacing=5, SeriesInstanceUID="1.2.4")
        with pytest.raises(GeometryError) as caught:
            load_volume(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path} holds 2 CT series; choose one by --series-uid UID "
            "(in a cohort, by series_uid in its table): "
            "1.2.3 (Thorax soft, 5 slices, 2.5 mm apart, kernel B 1); "
            "1.2.4 (no description, 3 slices, 5 mm apart)"
        )
        np.testing.assert_array_equal(hounsfield(tmp_path, series_uid="1.2.3"), voxels)
        np.testing.assert_array_equal(hounsfield(tmp_path, series_uid="1.2.4"), voxels[:3] // 2)
        with pytest.raises(UsageError, match=r"no CT series 1\.2; choose one of these: 1\.2\.3"):
            load_volume(tmp_path, ReadingOptions(series_uid="1.2"))

    def test_localizers_and_single_slices_do_not_count(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer
    ) -> None:
        localizer = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "1.1"}
        write_dicom(tmp_path / "localizers", voxels[:2], **localizer)
        write_dicom(tmp_path / "monitoring", voxels[:1], SeriesInstanceUID="1.9")
        write_dicom(tmp_path / "scan", voxels)
        localizer["SeriesInstanceUID"] = "1.2.3"
        write_dicom(tmp_path / "localizer in the series", voxels[:1], **localizer)
        np.testing.assert_array_equal(hounsfield(tmp_path), voxels)
        with pytest.raises(UsageError, match=r"1\.9 \(no description, 1 slice\)"):
            load_volume(tmp_path, ReadingOptions(series_uid="1.2"))

    def test_only_dicom_has_series(self, ct_path: Path) -> None:
        with pytest.raises(UsageError, match="only DICOM has series"):
            load_volume(ct_path, ReadingOptions(series_uid="1.2"))


def test_without_pydicom(
    voxels: Any, tmp_path: Path, write_dicom: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dicom(tmp_path, voxels)
    monkeypatch.setattr("pmtool.system.extras.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"DICOM needs pydicom: pip install 'pmtool\[dicom\]'"):
        load_volume(tmp_path)


@pytest.mark.usefixtures("fake_sampler")
class TestCommand:
    def run(self, *arguments: object) -> int:
        return run_command(cli, ["resample", *map(str, arguments)])

    def test_folder_to_file(self, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
        write_dicom(tmp_path / "ct", voxels)
        out = tmp_path / "out.nrrd"
        assert self.run("--spacing", 1.25, tmp_path / "ct", out) == 0
        image = sitk.ReadImage(str(out))
        assert image.GetSize() == (10, 12, 9)
        assert image.GetOrigin() == (-11.0, 7.5, -300.25)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[::2], voxels)
        python = pmtool.resample(tmp_path / "ct", 1.25)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(python), sitk.GetArrayFromImage(image))

    def test_one_of_several_series(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for uid_ in ("1.2.3", "1.2.4"):
            write_dicom(tmp_path / "ct", voxels, SeriesInstanceUID=uid_)
        out = tmp_path / "out.nrrd"
        assert self.run("--spacing", 1.25, tmp_path / "ct", out) == 4
        told = capsys.readouterr().err
        assert told.startswith(f"pmtool: {tmp_path / 'ct'} holds 2 CT series; choose one by --seri")
        assert told.count("\n") == 1
        assert not out.exists()
        arguments = ("--spacing", 1.25, tmp_path / "ct", out)
        assert self.run(*arguments, "--series-uid", "1.2.5") == 2
        assert self.run(*arguments, "--series-uid", "1.2.4") == 0

    def test_a_series_as_reference(
        self, voxels: Any, tmp_path: Path, write_dicom: Writer, ct_path: Path
    ) -> None:
        write_dicom(tmp_path / "fine", np.repeat(voxels, 2, axis=0)[:9], spacing=1.25)
        out = tmp_path / "out.nrrd"
        assert self.run("--reference", tmp_path / "fine", ct_path, out) == 0
        assert sitk.ReadImage(str(out)).GetSize()[2] == 9


@pytest.fixture(scope="module")
def real(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(shared("dicom/Lung_Dx-A0001.tar.xz")) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4 on
        archive.extractall(folder)
    return folder


class TestReal:
    def test_two_series(self, real: Path, tmp_path: Path) -> None:
        """As another reader reads them, in folders of their own and in one."""
        with pytest.raises(GeometryError) as caught:
            load_volume(real)
        for told in (f"{B} (5mm, 64 slices, 5 mm apart, kernel B)", f"{L} (5mm, 16 slices, 5 mm"):
            assert told in str(caught.value)
        for number, file in enumerate(sorted(real.rglob("*.dcm"))):
            shutil.copy(file, tmp_path / f"IM{(7 * number) % 80}")
        for series, name in ((B, "kernel-B"), (L, "kernel-L")):
            (there,) = real.rglob(name)
            names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(there))
            other = sitk.ReadImage(names)
            volume = load_volume(tmp_path, ReadingOptions(series_uid=series))
            assert volume.image.GetSpacing() == pytest.approx(other.GetSpacing())
            assert volume.image.GetOrigin() == other.GetOrigin()
            assert volume.image.GetDirection() == other.GetDirection()
            np.testing.assert_array_equal(volume.slices, sitk.GetArrayViewFromImage(other))

    @pytest.mark.usefixtures("fake_sampler")
    def test_resampled(self, real: Path, tmp_path: Path) -> None:
        arguments = ["resample", "--spacing", "2.5", "--series-uid", L, str(real)]
        assert run_command(cli, [*arguments, str(tmp_path / "out.nrrd")]) == 0
        image = sitk.ReadImage(str(tmp_path / "out.nrrd"))
        assert image.GetSize() == (512, 512, 31)
        assert image.GetSpacing()[2] == 2.5
        before = hounsfield(real, series_uid=L)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[::2], before)
