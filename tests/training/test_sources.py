"""Finding scans below folders, and reading them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pmtool
from pmtool.errors import ContentError, InputError
from pmtool.images.headers import READERS
from pmtool.training.sources import ReadScan, Source, find_sources, read_source

Voxels = NDArray[np.int16]
Writer = Callable[..., list[Path]]
SHAPE = (5, 20, 24)
Noise = Callable[..., Voxels]
Write = Callable[..., Path]


def scans(folder: Path) -> tuple[list[ReadScan], list[str]]:
    """All that can be read below a folder, and what is said of the rest."""
    found = [item for source in find_sources([folder]) for item in read_source(source)]
    read = [item for item in found if isinstance(item, ReadScan)]
    return read, [str(item) for item in found if not isinstance(item, ReadScan)]


class TestSources:
    @pytest.mark.parametrize("suffix", [suffix.removeprefix(".") for suffix in READERS])
    def test_formats(self, suffix: str, tmp_path: Path, noise: Noise, write: Write) -> None:
        write(noise(), tmp_path / f"a.{suffix}")
        (scan,), skipped = scans(tmp_path)
        np.testing.assert_array_equal(scan.voxels, noise())
        assert scan.voxels.dtype == np.int16
        assert scan.spacing == scan.thickness == pytest.approx(1.25)
        assert not skipped

    @pytest.mark.usefixtures("fake_sampler")
    @pytest.mark.filterwarnings("ignore:the slices are")
    def test_scans_that_pmtool_made_are_told(
        self, tmp_path: Path, noise: Noise, write: Write, write_dicom: Writer
    ) -> None:
        (tmp_path / "a").mkdir()
        pmtool.resample(write(noise(), tmp_path / "ct.nrrd"), 0.625, tmp_path / "a" / "fine.nrrd")
        write_dicom(tmp_path / "in", noise())
        pmtool.resample(tmp_path / "in", 1.25, f"{tmp_path / 'a' / 'thin'}/")
        with pytest.warns(UserWarning, match="made by pmtool .*; train on the original") as told:
            assert len(scans(tmp_path / "a")[0]) == 2
        assert [str(w.message).split(" were")[0] for w in told] == [
            f"4 of the 9 slices of {tmp_path / 'a' / name}" for name in ("fine.nrrd", "thin")
        ]

    def test_patients_of_image_files(self, tmp_path: Path, noise: Noise, write: Write) -> None:
        """The first folder below, or the file's own name."""
        for name in ("one.nii.gz", "two/first.nrrd", "two/later/ct.mha", "three.v2.nrrd"):
            write(noise(), tmp_path / name)
        found = {source.path.name: source.patient for source in find_sources([tmp_path])}
        assert found == {
            "one.nii.gz": "one",
            "first.nrrd": "two",
            "ct.mha": "two",
            "three.v2.nrrd": "three.v2",
        }

    def test_folders_that_overlap_are_searched_once(
        self, tmp_path: Path, noise: Noise, write: Write
    ) -> None:
        write(noise(), tmp_path / "a" / "ct.nrrd")
        assert len(find_sources([tmp_path, tmp_path / "a", tmp_path])) == 1

    def test_folder_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is not a folder"):
            find_sources([tmp_path / "none"])

    def test_hidden_files_are_none(self, tmp_path: Path, noise: Noise, write: Write) -> None:
        write(noise(), tmp_path / "a.nrrd")
        write(noise(), tmp_path / "._a.nrrd")
        write(noise(), tmp_path / ".Trash-1000" / "files" / "b.nrrd")
        assert [source.path.name for source in find_sources([tmp_path])] == ["a.nrrd"]

    def test_a_folder_that_cannot_be_read(
        self, tmp_path: Path, lock: Callable[..., None], noise: Noise, write: Write
    ) -> None:
        write(noise(), tmp_path / "a.nrrd")
        lock(tmp_path / "locked")
        with pytest.raises(InputError, match=r"locked cannot be read \(Permission denied\)"):
            find_sources([tmp_path])

    def test_padding_becomes_air_and_floats_are_rounded(
        self, tmp_path: Path, noise: Noise, write: Write
    ) -> None:
        voxels = noise().astype(np.float32) + 0.4
        voxels[:, 0] = -3024
        voxels[:, 1] = 50_000
        write(voxels, tmp_path / "a.nrrd")
        (scan,), _ = scans(tmp_path)
        assert (scan.voxels[:, 0] == -1024).all()
        assert (scan.voxels[:, 1] == 32767).all()
        np.testing.assert_array_equal(scan.voxels[:, 2:], noise()[:, 2:])

    def test_what_is_no_ct(self, tmp_path: Path, noise: Noise, write: Write) -> None:
        write((noise() > 0).astype(np.uint8), tmp_path / "mask.nrrd")
        write(noise() + np.int16(1000), tmp_path / "pet.nrrd")
        write(np.full(SHAPE, -2000, np.int16), tmp_path / "empty.nrrd")
        write(noise()[:2], tmp_path / "two.nrrd")
        (tmp_path / "cut.nrrd").write_bytes(b"NRRD0004\n")
        (tmp_path / "notes.txt").write_text("of the scans")
        read, said = scans(tmp_path)
        assert not read
        assert [sentence.count(str(tmp_path)) for sentence in said] == [1] * 5
        assert not any("--assume-hu" in sentence for sentence in said)  # which training lacks


class TestDicom:
    def test_series_in_order_of_its_positions(
        self, tmp_path: Path, write_dicom: Writer, noise: Noise
    ) -> None:
        write_dicom(tmp_path / "x", noise(), spacing=1.25, SliceThickness=2.5)
        (scan,), skipped = scans(tmp_path)
        np.testing.assert_array_equal(scan.voxels, noise())
        assert (scan.patient, scan.spacing, scan.thickness) == ("Doe", 1.25, 2.5)
        assert scan.name == str(tmp_path / "x")
        assert not skipped

    def test_two_series_in_a_folder(
        self, tmp_path: Path, write_dicom: Writer, noise: Noise
    ) -> None:
        write_dicom(tmp_path, noise(1))
        write_dicom(tmp_path, noise(2), SeriesInstanceUID="1.2.4")
        read, _ = scans(tmp_path)
        for scan, seed in zip(read, (1, 2), strict=True):
            np.testing.assert_array_equal(scan.voxels, noise(seed))
        assert read[0].name != read[1].name

    @pytest.mark.parametrize(
        ("patient", "study", "expected"), [("", "1.9", "1.9"), ("", "", "folder")]
    )
    def test_patients_without_identity(
        self,
        patient: str,
        study: str,
        expected: str,
        tmp_path: Path,
        write_dicom: Writer,
        noise: Noise,
    ) -> None:
        tags = {"PatientID": patient, "StudyInstanceUID": study}
        write_dicom(tmp_path / "folder" / "series", noise(), **tags)
        (scan,), _ = scans(tmp_path)
        assert scan.patient == expected

    @pytest.mark.parametrize("modality", ["PT", "MR"])
    def test_other_modalities_are_refused(
        self, modality: str, tmp_path: Path, write_dicom: Writer, noise: Noise
    ) -> None:
        write_dicom(tmp_path / "ct", noise())
        write_dicom(tmp_path / "other", noise(), Modality=modality, SOPClassUID="1.2.840.10008")
        with pytest.raises(ContentError, match=f"of modality {modality}, not CT: move it out"):
            scans(tmp_path)

    @pytest.mark.parametrize("modality", ["RTSTRUCT", "SEG", "SR"])
    def test_what_goes_with_a_ct_is_ignored(
        self, modality: str, tmp_path: Path, write_dicom: Writer, noise: Noise
    ) -> None:
        tags = {"Modality": modality, "SeriesInstanceUID": "1.2.9", "SOPClassUID": "1.2.840.10008"}
        write_dicom(tmp_path, noise())
        write_dicom(tmp_path, noise(1)[:1], **tags)
        read, skipped = scans(tmp_path)
        assert len(read) == 1
        assert not skipped

    def test_irregular_stacks_are_skipped(
        self, tmp_path: Path, write_dicom: Writer, noise: Noise
    ) -> None:
        write_dicom(tmp_path / "gap", noise())[2].unlink()
        axes = [1, 0, 0, 0, 0.8, 0.6]
        write_dicom(tmp_path / "tilted", noise(), ImageOrientationPatient=axes)
        write_dicom(tmp_path / "two", noise()[:2])
        read, said = scans(tmp_path)
        assert not read
        gap, tilted, two = said
        assert "unevenly spaced" in gap
        assert gap.endswith("; copy missing slices, or give an even stack")
        assert "tilted gantry" in tilted
        assert "fewer than three" in two

    def test_damaged_files_are_skipped(
        self, tmp_path: Path, write_dicom: Writer, noise: Noise
    ) -> None:
        cut = write_dicom(tmp_path / "cut", noise())[2]
        cut.write_bytes(cut.read_bytes()[:-200])
        (tmp_path / "cut" / "rubbish.dcm").write_bytes(b"rubbish")
        write_dicom(tmp_path / "whole", noise())
        read, said = scans(tmp_path)
        assert [scan.name for scan in read] == [str(tmp_path / "whole")]
        assert len(said) == 2
        assert all("copy it again" in sentence for sentence in said)

    def test_series_with_missing_files_are_skipped(
        self, tmp_path: Path, write_dicom: Writer, noise: Noise
    ) -> None:
        """Links to nowhere, as git-annex leaves them; once fetched, the source has changed."""
        files = {name: write_dicom(tmp_path / name, noise()) for name in ("part", "whole")}
        kept = files["part"][-1].rename(tmp_path / ".kept")
        files["part"][-1].symlink_to(kept.name)
        (tmp_path / "none").mkdir()
        for name in ("none/0.dcm", "none.nrrd"):
            (tmp_path / name).symlink_to("nowhere")
        read, said = scans(tmp_path)
        assert [scan.name for scan in read] == [str(tmp_path / "whole")]
        for name, sentence in zip(("none/0.dcm", "none.nrrd", "part"), said, strict=True):
            assert str(tmp_path / name) in sentence
        assert ["is not there: fetch" in sentence for sentence in said] == [True, False, True]
        part = Source(tmp_path / "part", "part")
        before = part.fingerprint()
        kept.rename(tmp_path / "part" / kept.name)
        assert len(scans(tmp_path)[0]) == 2
        assert part.fingerprint() != before

    def test_real_folder(self, tmp_path: Path, shared: Callable[[str], Path]) -> None:
        """Two series of one scan, in a folder each and then in one folder."""
        with tarfile.open(shared("dicom/Lung_Dx-A0001.tar.xz")) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4 on
            archive.extractall(tmp_path)
        soft, lung = sorted(tmp_path.glob("*/kernel-*"))
        apart = [*read_source(Source(soft, "")), *read_source(Source(lung, ""))]
        for number, file in enumerate(lung.iterdir()):
            file.rename(soft / f"lung-{number}.dcm")
        together = list(read_source(Source(soft, "")))
        for found in (apart, together):
            scans = [scan for scan in found if isinstance(scan, ReadScan)]
            assert sorted(scan.voxels.shape[0] for scan in scans) == [16, 64]
            assert {(scan.patient, scan.spacing) for scan in scans} == {("Lung_Dx-A0001", 5.0)}
