"""Zip files: what they may hold, and that nothing stays behind."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.errors import InputError, MemoryBudgetError
from pmtool.images.reading import ReadingOptions
from pmtool.loading import load_volume
from pmtool.system import limits

Writer = Callable[..., list[Path]]


@pytest.fixture
def voxels() -> NDArray[np.int16]:
    return np.random.default_rng(2).integers(-1000, 1000, (5, 12, 10)).astype(np.int16)


@pytest.fixture
def archive(
    voxels: Any, tmp_path: Path, write_dicom: Writer, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A zip of a series, and a folder of its own for temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    path = tmp_path / "ct.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in write_dicom(tmp_path / "a", voxels):
            archive.write(file, f"export/{file.name}")
    return path


def refused(archive: Path, told: str, error: type[Exception] = InputError) -> None:
    with pytest.raises(error, match=told):
        load_volume(archive)
    assert not list((archive.parent / "temporary").iterdir())
    assert {path.name for path in archive.parent.iterdir()} == {"a", "ct.zip", "temporary"}


def test_nothing_stays(archive: Path, voxels: Any) -> None:
    volume = load_volume(archive)
    assert not list((archive.parent / "temporary").iterdir())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume.image), voxels)
    assert volume.headers is not None
    assert volume.headers[0].PatientID == "Doe"


def test_names_with_backslashes(archive: Path, voxels: Any) -> None:
    with zipfile.ZipFile(archive, "w") as file:
        for path in (archive.parent / "a").iterdir():
            file.write(path, rf"DATA\{path.name}")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(load_volume(archive).image), voxels)


@pytest.mark.parametrize(
    "name", ["../a.dcm", "/tmp/a.dcm", "x/../../a.dcm", r"..\a.dcm", r"C:\a.dcm", r"\\host\a.dcm"]
)
def test_paths_that_lead_out(name: str, archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, b"out")
    refused(archive, "leads out of its folder; give the unpacked folder")


def test_links(archive: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "/etc/passwd")
    refused(archive, "link in .* is a link or a device")


def test_encrypted(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, "is encrypted")


def test_bomb(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(3 << 20))
    monkeypatch.setattr(limits, "MAX_INPUT", 2 << 20)
    refused(archive, r"unpacks to .* lift the limit with --allow-large", MemoryBudgetError)
    assert load_volume(archive, ReadingOptions(allow_large=True)).headers is not None


def test_bomb_that_lies(archive: Path) -> None:
    """A member unpacks to more than the archive says."""
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(3 << 20))
    content, size = archive.read_bytes(), (3 << 20).to_bytes(4, "little")
    assert content.count(size) == 2
    archive.write_bytes(content.replace(size, (100).to_bytes(4, "little")))
    refused(archive, r"cannot be unpacked to .* \(Bad CRC-32")


def test_methods_that_pack_more_tightly(archive: Path, voxels: Any) -> None:
    """A blank slice takes fewer bytes than deflation could make it."""
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_LZMA) as file:
        file.writestr("blank", bytes(3 << 20))
    np.testing.assert_array_equal(load_volume(archive).slices, voxels)


def test_the_same_name_twice(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("a.dcm", b"rubbish")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a.dcm", b"rubbish")
    refused(archive, "cannot be unpacked")


def test_damaged(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])
    refused(archive, r"ct\.zip cannot be unpacked to .*: copy it again")
    archive.write_bytes(b"")
    refused(archive, "cannot be unpacked")


def test_members_are_named_in_the_archive(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("export/bad.dcm", b"rubbish")
    refused(archive, f"^{archive}/export/bad.dcm is a damaged DICOM file")
