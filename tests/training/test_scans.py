"""Finding scans, reading them once, and dividing the patients."""

from __future__ import annotations

import os
import resource
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.errors import ContentError, InputError, OutputError, UsageError
from pmtool.images.headers import READERS
from pmtool.system import limits
from pmtool.training import cache as cache_module
from pmtool.training.cache import BLOCK, Cache, CachedScan
from pmtool.training.selection import (
    Split,
    explicit_split,
    split_patients,
    strides,
    thickness_text,
    undivided,
    usable,
)
from pmtool.training.settings import CropSettings
from pmtool.training.sources import Scan, Source, find_sources, read_source

Voxels = NDArray[np.int16]
Writer = Callable[..., list[Path]]
SHAPE = (5, 20, 24)


def noise(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Voxels:
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def write(voxels: NDArray[Any], path: Path, spacing: float = 1.25) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.7, spacing))
    sitk.WriteImage(image, str(path))
    return path


def scans(folder: Path) -> tuple[list[Scan], list[str]]:
    """All that can be read below a folder, and what is said of the rest."""
    found = [item for source in find_sources([folder]) for item in read_source(source)]
    read = [item for item in found if isinstance(item, Scan)]
    return read, [str(item) for item in found if not isinstance(item, Scan)]


def nothing(label: str, share: float) -> None:
    """Told of progress."""


class TestSources:
    @pytest.mark.parametrize("suffix", [suffix.removeprefix(".") for suffix in READERS])
    def test_formats(self, suffix: str, tmp_path: Path) -> None:
        write(noise(), tmp_path / f"a.{suffix}")
        (scan,), skipped = scans(tmp_path)
        np.testing.assert_array_equal(scan.voxels, noise())
        assert scan.voxels.dtype == np.int16
        assert scan.spacing == scan.thickness == pytest.approx(1.25)
        assert not skipped

    def test_patients_of_image_files(self, tmp_path: Path) -> None:
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

    def test_folders_that_overlap_are_searched_once(self, tmp_path: Path) -> None:
        write(noise(), tmp_path / "a" / "ct.nrrd")
        assert len(find_sources([tmp_path, tmp_path / "a", tmp_path])) == 1

    def test_folder_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is no folder"):
            find_sources([tmp_path / "none"])

    def test_hidden_files_are_none(self, tmp_path: Path) -> None:
        write(noise(), tmp_path / "a.nrrd")
        write(noise(), tmp_path / "._a.nrrd")
        assert [source.path.name for source in find_sources([tmp_path])] == ["a.nrrd"]

    def test_a_folder_that_cannot_be_read(self, tmp_path: Path, lock: Callable[..., None]) -> None:
        write(noise(), tmp_path / "a.nrrd")
        lock(tmp_path / "locked")
        with pytest.raises(InputError, match=r"locked cannot be read \(Permission denied\)"):
            find_sources([tmp_path])

    def test_padding_becomes_air_and_floats_are_rounded(self, tmp_path: Path) -> None:
        voxels = noise().astype(np.float32) + 0.4
        voxels[:, 0] = -3024
        voxels[:, 1] = 50_000
        write(voxels, tmp_path / "a.nrrd")
        (scan,), _ = scans(tmp_path)
        assert (scan.voxels[:, 0] == -1024).all()
        assert (scan.voxels[:, 1] == 32767).all()
        np.testing.assert_array_equal(scan.voxels[:, 2:], noise()[:, 2:])

    def test_what_is_no_ct(self, tmp_path: Path) -> None:
        write((noise() > 0).astype(np.uint8), tmp_path / "mask.nrrd")
        write(noise() + np.int16(1000), tmp_path / "pet.nrrd")
        write(np.full(SHAPE, -2000, np.int16), tmp_path / "empty.nrrd")
        write(noise()[:2], tmp_path / "two.nrrd")
        (tmp_path / "cut.nrrd").write_bytes(b"NRRD0004\n")
        (tmp_path / "notes.txt").write_text("of the scans")
        read, said = scans(tmp_path)
        assert not read
        assert [sentence.count(str(tmp_path)) for sentence in said] == [1] * 5


class TestDicom:
    def test_series_in_order_of_its_positions(self, tmp_path: Path, write_dicom: Writer) -> None:
        write_dicom(tmp_path / "x", noise(), spacing=1.25, SliceThickness=2.5)
        (scan,), skipped = scans(tmp_path)
        np.testing.assert_array_equal(scan.voxels, noise())
        assert (scan.patient, scan.spacing, scan.thickness) == ("Doe", 1.25, 2.5)
        assert scan.name == str(tmp_path / "x")
        assert not skipped

    def test_two_series_in_a_folder(self, tmp_path: Path, write_dicom: Writer) -> None:
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
        self, patient: str, study: str, expected: str, tmp_path: Path, write_dicom: Writer
    ) -> None:
        tags = {"PatientID": patient, "StudyInstanceUID": study}
        write_dicom(tmp_path / "folder" / "series", noise(), **tags)
        (scan,), _ = scans(tmp_path)
        assert scan.patient == expected

    @pytest.mark.parametrize("modality", ["PT", "MR"])
    def test_other_modalities_are_refused(
        self, modality: str, tmp_path: Path, write_dicom: Writer
    ) -> None:
        write_dicom(tmp_path / "ct", noise())
        write_dicom(tmp_path / "other", noise(), Modality=modality, SOPClassUID="1.2.840.10008")
        with pytest.raises(ContentError, match=f"of modality {modality}, not CT: move it out"):
            scans(tmp_path)

    @pytest.mark.parametrize("modality", ["RTSTRUCT", "SEG", "SR"])
    def test_what_goes_with_a_ct_is_ignored(
        self, modality: str, tmp_path: Path, write_dicom: Writer
    ) -> None:
        tags = {"Modality": modality, "SeriesInstanceUID": "1.2.9", "SOPClassUID": "1.2.840.10008"}
        write_dicom(tmp_path, noise())
        write_dicom(tmp_path, noise(1)[:1], **tags)
        read, skipped = scans(tmp_path)
        assert len(read) == 1
        assert not skipped

    def test_irregular_stacks_are_skipped(self, tmp_path: Path, write_dicom: Writer) -> None:
        write_dicom(tmp_path / "gap", noise())[2].unlink()
        axes = [1, 0, 0, 0, 0.8, 0.6]
        write_dicom(tmp_path / "tilted", noise(), ImageOrientationPatient=axes)
        write_dicom(tmp_path / "two", noise()[:2])
        read, said = scans(tmp_path)
        assert not read
        gap, tilted, two = said
        assert "unevenly spaced" in gap
        assert "tilted gantry" in tilted
        assert "fewer than three" in two

    def test_damaged_files_are_skipped(self, tmp_path: Path, write_dicom: Writer) -> None:
        cut = write_dicom(tmp_path / "cut", noise())[2]
        cut.write_bytes(cut.read_bytes()[:-200])
        (tmp_path / "cut" / "rubbish.dcm").write_bytes(b"rubbish")
        write_dicom(tmp_path / "whole", noise())
        read, said = scans(tmp_path)
        assert [scan.name for scan in read] == [str(tmp_path / "whole")]
        assert len(said) == 2
        assert all("copy it again" in sentence for sentence in said)

    def test_real_folder(self, tmp_path: Path, shared: Callable[[str], Path]) -> None:
        """Two series of one scan, in a folder each and then in one folder."""
        with tarfile.open(shared("dicom/Lung_Dx-A0001.tar.xz")) as archive:
            archive.extractall(tmp_path, filter="data")
        soft, lung = sorted(tmp_path.glob("*/kernel-*"))
        apart = [*read_source(Source(soft, "")), *read_source(Source(lung, ""))]
        for number, file in enumerate(lung.iterdir()):
            file.rename(soft / f"lung-{number}.dcm")
        together = list(read_source(Source(soft, "")))
        for found in (apart, together):
            scans = [scan for scan in found if isinstance(scan, Scan)]
            assert sorted(scan.voxels.shape[0] for scan in scans) == [16, 64]
            assert {(scan.patient, scan.spacing) for scan in scans} == {("Lung_Dx-A0001", 5.0)}


class TestCache:
    @pytest.fixture
    def data(self, tmp_path: Path, write_dicom: Writer) -> Path:
        for seed in range(3):
            write(noise(seed), tmp_path / "data" / f"{seed}.nrrd")
        write_dicom(tmp_path / "data" / "dicom", noise(3))
        (tmp_path / "data" / "bad.nrrd").write_bytes(b"NRRD0004\n")
        return tmp_path / "data"

    @pytest.fixture
    def cache(self, tmp_path: Path) -> Cache:
        (tmp_path / "cache").mkdir()
        return Cache(tmp_path / "cache")

    @pytest.fixture
    def reads(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the sources that are read."""
        names: list[str] = []

        def counted(source: Any) -> Iterator[Any]:
            names.append(source.path.name)
            return read_source(source)

        monkeypatch.setattr(cache_module, "read_source", counted)
        return names

    def test_holds_what_was_read(self, data: Path, cache: Cache) -> None:
        sources = find_sources([data])
        cache.build(sources, nothing)
        found, skipped = Cache(cache.folder).load(sources)
        assert [scan.patient for scan in found] == ["0", "1", "2", "Doe"]
        for seed, scan in enumerate(found):
            np.testing.assert_array_equal(scan.voxels, noise(seed))
            assert scan.shape == SHAPE
        (sentence,) = skipped
        assert "bad.nrrd" in sentence

    def test_sources_are_read_once_and_again_when_they_change(
        self, data: Path, cache: Cache, reads: list[str]
    ) -> None:
        sources = find_sources([data])
        cache.build(sources, nothing)
        cache.build(sources, nothing)
        assert reads == ["0.nrrd", "1.nrrd", "2.nrrd", "bad.nrrd", "dicom"]
        reads.clear()
        files = len(list(cache.folder.iterdir()))
        write(noise(8), data / "1.nrrd")
        os.utime(next((data / "dicom").iterdir()), ns=(1, 1))
        with pytest.raises(InputError, match=r"1\.nrrd changed while it was read"):
            cache.load(sources)
        cache.build(sources, nothing)
        assert reads == ["1.nrrd", "dicom"]
        np.testing.assert_array_equal(cache.load(sources)[0][1].voxels, noise(8))
        assert len(list(cache.folder.iterdir())) == files

    def test_what_was_lost_is_read_again(self, data: Path, cache: Cache, reads: list[str]) -> None:
        sources = find_sources([data])
        cache.build(sources, nothing)
        first, second, third, _ = cache.load(sources)[0]
        first.file.unlink()
        second.file.write_bytes(second.file.read_bytes()[:-1])
        cache._path(sources[2]).write_text("{")
        reads.clear()
        cache.build(sources, nothing)
        assert reads == ["0.nrrd", "1.nrrd", "2.nrrd"]
        np.testing.assert_array_equal(third.voxels, noise(2))

    def test_what_memory_did_not_suffice_for_is_read_again(
        self, data: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sources = find_sources([data])
        with monkeypatch.context() as short:
            short.setattr(limits, "free_memory", lambda: 0)
            cache.build(sources, nothing)
        assert cache.load(sources)[0] == []
        cache.build(sources, nothing)
        assert len(cache.load(sources)[0]) == 4

    def test_detached_voxels_that_change_are_read_again(
        self, tmp_path: Path, cache: Cache, reads: list[str]
    ) -> None:
        header = write(noise(1), tmp_path / "s[1].nhdr")
        sources = find_sources([tmp_path])
        cache.build(sources, nothing)
        (voxels,) = tmp_path.glob("s*.raw*")
        os.utime(voxels, ns=(1, 1))
        cache.build(sources, nothing)
        assert reads == [header.name] * 2

    def test_leftovers_go_when_nobody_can_be_writing_them(self, data: Path, cache: Cache) -> None:
        old, new = cache.folder / ".a.hu.1@host.tmp", cache.folder / ".b.hu.2@host.tmp"
        old.touch()
        new.touch()
        os.utime(old, ns=(1, 1))
        cache.build([], nothing)
        assert list(cache.folder.iterdir()) == [new]

    def test_a_full_disk(self, data: Path, cache: Cache, reads: list[str]) -> None:
        """A file cannot grow beyond a limit, as on a disk that is full."""
        write(noise(5, (5, 60, 60)), data / "2.nrrd")
        sources = find_sources([data])
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            with pytest.raises(OutputError, match="what is cached is kept"):
                cache.build(sources, nothing)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert {file.suffix for file in cache.folder.iterdir()} == {".json", ".hu", ".body"}
        reads.clear()
        cache.build(sources, nothing)
        assert reads[0] == "2.nrrd"
        assert len(cache.load(sources)[0]) == 4

    def test_share_of_body(self, tmp_path: Path, cache: Cache) -> None:
        voxels = np.full((3, 20, 40), -1024, np.int16)
        voxels[1, :BLOCK, BLOCK : 2 * BLOCK] = 0
        voxels[2, BLOCK:, :BLOCK] = -800
        write(voxels, tmp_path / "data" / "a.nrrd")
        sources = find_sources([tmp_path / "data"])
        cache.build(sources, nothing)
        ((scan,), _) = cache.load(sources)
        expected = np.zeros((3, 2, 3))
        expected[1, 0, 1] = 1
        expected[2, 1, 0] = 4 / BLOCK  # of 16 rows 4 are in the image
        np.testing.assert_allclose(scan.body / 255, expected, atol=1 / 255)


def cached(patient: str, spacing: float = 1.0, shape: tuple[int, int, int] = SHAPE) -> CachedScan:
    return CachedScan(Path(patient), patient, patient, spacing, spacing, shape)


class TestSelection:
    def test_series_in_several_folders(self, tmp_path: Path, write_dicom: Writer) -> None:
        """Parts are no scans; of copies one is taken, and other patients' are others."""
        voxels = noise(shape=(6, 20, 24))
        for number, file in enumerate(write_dicom(tmp_path / "data" / "a", voxels)):
            part = tmp_path / "data" / "a" / str(number % 2)
            part.mkdir(exist_ok=True)
            file.rename(part / file.name)
        for name, patient in (("b", "Roe"), ("c", "Roe"), ("d", "Poe")):
            write_dicom(tmp_path / "data" / name, voxels, PatientID=patient)
        cache, sources = Cache(tmp_path), find_sources([tmp_path / "data"])
        cache.build(sources, nothing)
        scans, skipped = cache.load(sources)
        assert (len(scans), skipped) == (5, [])
        whole, reasons = undivided(scans)
        assert [scan.patient for scan in whole] == ["Roe", "Poe"]
        assert len(reasons) == 2
        assert "is a part of a series that lies in 2 folders" in reasons[0]

    def test_patients_are_never_on_both_sides(self) -> None:
        scans = [cached(f"p{number % 20}") for number in range(60)]
        split = split_patients(scans, 0.25, seed=0)
        sides = [{scan.patient for scan in side} for side in split]
        assert not sides[0] & sides[1]
        assert len(sides[1]) == 5
        assert sum(map(len, split)) == 60
        assert split_patients(scans[::-1], 0.25, seed=0).validation == split.validation[::-1]
        others = [split_patients(scans, 0.25, seed=seed).validation for seed in range(1, 5)]
        assert any(other != split.validation for other in others)

    @pytest.mark.parametrize("share", [0.01, 0.99])
    def test_both_sides_have_a_patient(self, share: float) -> None:
        split = split_patients([cached("a"), cached("b")], share, seed=0)
        assert [len(side) for side in split] == [1, 1]

    def test_a_single_patient(self) -> None:
        with pytest.raises(UsageError, match=r"one patient \(a\).*--validation"):
            split_patients([cached("a"), cached("a")], 0.1, seed=0)

    def test_explicit_split(self) -> None:
        a, b = cached("a"), cached("b")
        assert explicit_split([a], [b]) == Split([a], [b])
        with pytest.raises(UsageError, match="patient b is in both"):
            explicit_split([a, b], [b])

    @pytest.mark.parametrize(
        ("spacing", "slices", "expected"),
        [
            (1.0, 9, [1, 2, 3]),
            (1.25, 9, [1, 2]),
            (0.5, 6, [1, 2]),
            (1.5004, 5, [1, 2]),
            (3.0, 5, [1]),
            (5.0, 5, []),
        ],
    )
    def test_strides(self, spacing: float, slices: int, expected: list[int]) -> None:
        assert strides(cached("a", spacing, (slices, 64, 64)), CropSettings()) == expected

    def test_what_cannot_be_used(self) -> None:
        good = cached("good", shape=(5, 64, 64))
        far = cached("far", 5.0, (5, 64, 64))
        kept, said = usable([good, far, cached("small")], CropSettings())
        assert kept == [good]
        assert [sentence.split(",")[0] for sentence in said] == [
            "far has slices 5 mm apart",
            "small has slices of 24x20",
        ]
        assert "1 scans have slices thicker" in (thickness_text([good, far], CropSettings()) or "")
        assert thickness_text([good], CropSettings()) is None
