"""Reading scans once."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.errors import InputError, OutputError
from pmtool.system import limits
from pmtool.training import cache as cache_module
from pmtool.training.cache import BLOCK, Cache
from pmtool.training.sources import find_sources, read_source

Voxels = NDArray[np.int16]
Writer = Callable[..., list[Path]]
Noise = Callable[..., Voxels]
Write = Callable[..., Path]


def nothing(label: str, share: float) -> None:
    """Told of progress."""


class TestCache:
    @pytest.fixture
    def data(self, tmp_path: Path, write_dicom: Writer, noise: Noise, write: Write) -> Path:
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

    def test_holds_what_was_read(self, data: Path, cache: Cache, noise: Noise) -> None:
        sources = find_sources([data])
        cache.build(sources, nothing)
        found, skipped = Cache(cache.folder).load(sources)
        assert [scan.patient for scan in found] == ["0", "1", "2", "Doe"]
        for seed, scan in enumerate(found):
            np.testing.assert_array_equal(scan.voxels, noise(seed))
            assert scan.shape == noise(seed).shape
        (sentence,) = skipped
        assert "bad.nrrd" in sentence

    def test_sources_are_read_once_and_again_when_they_change(
        self, data: Path, cache: Cache, reads: list[str], noise: Noise, write: Write
    ) -> None:
        sources = find_sources([data])
        cache.build(sources, nothing)
        cache.build(sources, nothing)
        assert reads == ["0.nrrd", "1.nrrd", "2.nrrd", "bad.nrrd", "dicom"]
        reads.clear()
        (data / "dicom" / ".DS_Store").touch()
        cache.build(sources, nothing)
        assert not reads
        kept = {file for file in cache.folder.iterdir() if file.suffix != ".json"}
        write(noise(8), data / "1.nrrd")
        os.utime(next((data / "dicom").iterdir()), ns=(1, 1))
        with pytest.raises(InputError, match=r"1\.nrrd changed while it was read"):
            cache.load(sources)
        cache.build(sources, nothing)
        assert reads == ["1.nrrd", "dicom"]
        np.testing.assert_array_equal(cache.load(sources)[0][1].voxels, noise(8))
        assert kept <= set(cache.folder.iterdir())  # another run may be reading them

    def test_what_was_lost_is_read_again(
        self, data: Path, cache: Cache, reads: list[str], noise: Noise
    ) -> None:
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

    def test_what_could_not_be_opened_is_read_again(
        self, data: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, reads: list[str]
    ) -> None:
        """No change of the file shows that its permissions, or those above it, were changed."""

        def closed(path: Any, *_: Any, **__: Any) -> Any:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        sources = find_sources([data])
        with monkeypatch.context() as locked:
            locked.setattr("pmtool.images.headers.formats.READERS", {".nrrd": ("", closed)})
            locked.setattr("pydicom.dcmread", closed)
            cache.build(sources, nothing)
        assert cache.load(sources)[0] == []
        reads.clear()
        cache.build(sources, nothing)
        assert len(reads) == len(sources)
        assert len(cache.load(sources)[0]) == 4

    def test_a_fault_that_is_not_the_scans_ends_the_reading(
        self, data: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OutputError("no room for temporary files")

        sources = find_sources([data])
        with monkeypatch.context() as disk:
            disk.setattr("pmtool.training.sources.read_series", full)
            with pytest.raises(OutputError, match="no room"):
                cache.build(sources, nothing)
        cache.build(sources, nothing)
        assert len(cache.load(sources)[0]) == 4

    def test_detached_voxels_that_change_are_read_again(
        self, tmp_path: Path, cache: Cache, reads: list[str], noise: Noise, write: Write
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
        foreign = cache.folder / ".mine.tmp"
        for file in (old, new, foreign):
            file.touch()
        for file in (old, foreign):
            os.utime(file, ns=(1, 1))
        cache.build([], nothing)
        assert set(cache.folder.iterdir()) == {new, foreign}

    def test_a_full_disk(
        self, data: Path, cache: Cache, reads: list[str], noise: Noise, write: Write
    ) -> None:
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

    def test_share_of_body(self, tmp_path: Path, cache: Cache, write: Write) -> None:
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
