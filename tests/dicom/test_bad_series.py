"""DICOM folders and zips that are refused: damaged, lying, hostile, of other content."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pmtool.loading import load_volume

pydicom = pytest.importorskip("pydicom")

VOXELS = np.random.default_rng(2).integers(-1000, 1000, (5, 12, 10)).astype(np.int16)
Writer = Callable[..., list[Path]]


class Bad(NamedTuple):
    """How a bad source is made in a folder, the exit code, and a part of the message."""

    make: Callable[[Path, Writer], Path]
    code: int
    message: str


def series(voxels: NDArray[Any] = VOXELS, **options: Any) -> Callable[[Path, Writer], Path]:
    """A series, changed by options of `write_dicom`."""

    def make(folder: Path, write: Writer) -> Path:
        write(folder / "in", voxels, **options)
        return folder / "in"

    return make


def first(change: Callable[[bytes], bytes]) -> Callable[[Path, Writer], Path]:
    """A series whose first file has other bytes."""

    def make(folder: Path, write: Writer) -> Path:
        file = write(folder / "in", VOXELS)[0]
        file.write_bytes(change(file.read_bytes()))
        return folder / "in"

    return make


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes]) -> Callable[[Path, Writer], Path]:
    def make(folder: Path, _: Writer) -> Path:
        with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members:
                archive.writestr(member, content)
        return folder / "a.zip"

    return make


def pipe(folder: Path, _: Writer) -> Path:
    os.mkfifo(folder / "a.zip")
    return folder / "a.zip"


def patched(place: int, content: bytes) -> Callable[[Path, Writer], Path]:
    """A zip of one member whose entry in the directory has other bytes at a place."""

    def make(folder: Path, write: Writer) -> Path:
        path = zipped(("a.dcm", bytes(2000)))(folder, write)
        found = path.read_bytes()
        start = found.index(b"PK\x01\x02") + place
        path.write_bytes(found[:start] + content + found[start + len(content) :])
        return path

    return make


def link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("a.dcm")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def deep(content: bytes) -> bytes:
    """With 5,000 sequences in each other."""
    begin = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    place = content.index(b"\xe0\x7f\x10\x00")
    return content[:place] + begin * 5000 + content[place:]


def lying(length: int) -> Callable[[bytes], bytes]:
    """Pixels of another length than they say."""

    def change(content: bytes) -> bytes:
        place = content.index(b"\xe0\x7f\x10\x00") + 8
        return content[:place] + struct.pack("<I", length) + content[place + 4 :]

    return change


def encapsulated(syntax: str, frame: bytes, **tags: int) -> Callable[[Path, Writer], Path]:
    """Compressed pixels that are none."""

    def change(_: int, image: Any) -> None:
        image.ensure_file_meta()
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = pydicom.encaps.encapsulate([frame])
        image["PixelData"].VR = "OB"
        for keyword, value in tags.items():
            setattr(image, keyword, value)

    return series(change=change)


def moved(number: int, image: Any) -> None:
    image.ImagePositionPatient = [0, 0, [0, 2.5, 5, 10, 12.5][number]]


def tilted(number: int, image: Any) -> None:
    image.ImagePositionPatient = [0, 0.8 * number, 2.5 * number]


def repeated(number: int, image: Any) -> None:
    image.ImagePositionPatient = [0, 0, 2.5 * (number // 2)]
    image.AcquisitionNumber = number % 2


def two_series(folder: Path, write: Writer) -> Path:
    write(folder / "in", VOXELS)
    write(folder / "in", VOXELS, SeriesInstanceUID="1.2.4")
    return folder / "in"


def single(folder: Path, write: Writer) -> Path:
    return write(folder / "in", VOXELS)[0]


def mixed(keyword: str, other: str) -> Callable[[int, Any], None]:
    """Two of five images say something else."""

    def change(number: int, image: Any) -> None:
        if number > 2:
            setattr(image, keyword, other)

    return change


def turned(number: int, image: Any) -> None:
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0] if number else [0, 1, 0, 1, 0, 0]


def without(keyword: str, *, every: bool = False) -> Callable[[int, Any], None]:
    def change(number: int, image: Any) -> None:
        if every or number == 0:
            delattr(image, keyword)

    return change


def unfetched(folder: Path, write: Writer) -> Path:
    """A series whose last slice is a link to nowhere, as git-annex leaves it."""
    file = write(folder / "in", VOXELS)[-1]
    file.unlink()
    file.symlink_to(folder / "annex" / file.name)
    return folder / "in"


def text(name: str) -> Callable[[Path, Writer], Path]:
    def make(folder: Path, _: Writer) -> Path:
        (folder / "in").mkdir()
        (folder / "in" / name).write_bytes(b"hello")
        return folder / "in"

    return make


DAMAGED = "is a damaged DICOM file"
UNPACKED = "give the unpacked folder"
JPEG_2000, JPEG, RLE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.5"
HUGE_FRAME = bytes.fromhex("ff4fff51002f0000" + "0000ffff" * 2 + "0" * 16 + "0000ffff" * 2)

BAD = {
    "no file": Bad(text("readme.txt"), 3, "holds no CT images"),
    "text": Bad(text("a.dcm"), 3, DAMAGED),
    "cut": Bad(first(lambda content: content[: len(content) // 2]), 4, "where it lies"),
    "pixels cut": Bad(first(lambda content: content[:-9]), 3, DAMAGED),
    "unfetched": Bad(unfetched, 3, "is a link to a file that is not there"),
    "lying short": Bad(first(lying(20)), 3, DAMAGED),
    "lying size": Bad(series(Rows=65535, Columns=65535), 7, "lift the limit with"),
    "deep": Bad(first(deep), 3, DAMAGED),
    "no JPEG 2000": Bad(encapsulated(JPEG_2000, b"hello"), 3, DAMAGED),
    "huge JPEG 2000": Bad(encapsulated(JPEG_2000, HUGE_FRAME), 3, DAMAGED),
    "no JPEG": Bad(encapsulated(JPEG, b"\xff\xd8\xff\xff"), 3, DAMAGED),
    "no RLE": Bad(encapsulated(RLE, bytes(64)), 3, DAMAGED),
    "many frames": Bad(encapsulated(RLE, bytes(64), NumberOfFrames=2**31 - 1), 3, DAMAGED),
    "modality": Bad(
        series(Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), 5, "not CT"
    ),
    "modality of a CT": Bad(series(Modality="MR"), 5, "not CT"),
    "colour": Bad(series(SamplesPerPixel=3), 5, "is in colour"),
    "two series": Bad(two_series, 4, "choose one by --series-uid UID"),
    "single file": Bad(single, 4, "is a single slice; give the folder of its series"),
    "single slice": Bad(series(VOXELS[:1]), 4, "has a single slice"),
    "gap": Bad(series(change=moved), 4, "--allow-uneven"),
    "tilt": Bad(series(change=tilted), 4, "tilted gantry"),
    "repeats": Bad(series(VOXELS[:4], change=repeated), 4, "different images at"),
    "turned": Bad(series(change=turned), 4, "are not parallel"),
    "no position": Bad(series(change=without("ImagePositionPatient")), 4, "where it lies"),
    "no spacing": Bad(series(PixelSpacing=[0, 0]), 4, "for every slice where it lies"),
    "two patients": Bad(series(change=mixed("PatientID", "Roe")), 4, "are of several patients"),
    "two frames": Bad(
        series(change=mixed("FrameOfReferenceUID", "1.9")), 4, "are of several frames of reference"
    ),
    "iodine": Bad(series(RescaleType="MGML"), 5, "holds MGML, not HU"),
    "high bits": Bad(series(HighBit=15), 5, "at another place than the lowest"),
    "huge rescale": Bad(series(RescaleSlope="1e300"), 5, "which leads to no HU"),
    "no slope": Bad(series(RescaleSlope=0), 5, "which leads to no HU"),
    "no slope at all": Bad(
        series(change=without("RescaleSlope", every=True)),
        5,
        "has a RescaleIntercept but no RescaleSlope, so that",
    ),
    "no intercept at all": Bad(
        series(change=without("RescaleIntercept", every=True)),
        5,
        "has a RescaleSlope but no RescaleIntercept, so that",
    ),
    "no rescale": Bad(series(change=without("RescaleSlope")), 5, "have no RescaleSlope"),
    "no zip": Bad(lambda folder, _: folder / "none.zip", 3, "does not exist; give a folder"),
    "zip pipe": Bad(pipe, 3, "is not a file; give a zip"),
    "zip text": Bad(patched(0, b"hello"), 3, "cannot be unpacked"),
    "zip bomb": Bad(patched(24, struct.pack("<I", 0xFFFFFF00)), 3, "cannot hold the"),
    "zip above": Bad(zipped(("../a.dcm", b"")), 3, UNPACKED),
    "zip below and above": Bad(zipped(("a/../../a.dcm", b"")), 3, UNPACKED),
    "zip absolute": Bad(zipped(("/tmp/a.dcm", b"")), 3, UNPACKED),
    "zip drive": Bad(zipped(("C:\\a.dcm", b"")), 3, UNPACKED),
    "zip link": Bad(zipped((link(), b"/etc/passwd")), 3, UNPACKED),
    "zip encrypted": Bad(patched(8, b"\1"), 3, UNPACKED),
    "zip twice": Bad(zipped(("a.dcm", b"1"), ("A/../a.dcm", b"2")), 3, UNPACKED),
    "zip in zip": Bad(zipped(("b.zip", b"PK")), 3, "holds no CT images"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore")
def test_bad_dicom(name: str, tmp_path: Path, write_dicom: Writer, refused: Any) -> None:
    make, code, message = BAD[name]
    source = make(tmp_path, write_dicom)
    refused(code, message, "resample", "--spacing", 1.25, source, tmp_path / "out.nrrd")


def test_a_file_that_may_not_be_read_is_not_damaged(
    tmp_path: Path, write_dicom: Writer, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dicom(tmp_path / "in", VOXELS)

    def closed(file: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("pydicom.dcmread", closed)
    arguments = ("resample", "--spacing", 1.25, tmp_path / "in", tmp_path / "out.nrrd")
    refused(3, "cannot be read (Permission denied)", *arguments)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (OSError(28, "No space left on device"), 6, "No space left on device"),
        (OSError(12, "Cannot allocate memory"), 7, "out of memory"),
    ],
)
def test_a_full_disk_or_memory_is_no_damaged_file(
    error: OSError,
    code: int,
    told: str,
    tmp_path: Path,
    write_dicom: Writer,
    refused: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The decoder writes a frame to a temporary folder, and starts a process."""

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("pmtool.dicom.decoder.Decoder._decode", full)
    source = encapsulated(RLE, bytes(64))(tmp_path, write_dicom)
    arguments = ("resample", "--spacing", 1.25, source, tmp_path / "out.nrrd")
    refused(code, told, *arguments)


def test_a_lack_of_memory_leaves_no_attribute_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from pmtool.dicom import attributes, headers

    source = pydicom.Dataset()
    source.SliceThickness = 1

    def full(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("pydicom.Dataset.__getitem__", full)
        with pytest.raises(MemoryError):
            headers._convert(source)
    monkeypatch.setattr("copy.deepcopy", full)
    with pytest.raises(MemoryError):
        attributes.keep(pydicom.Dataset(), ["SliceThickness"], [source])


def private(number: int, image: Any) -> None:
    image.private_block(0x0099, "mine", create=True).add_new(1, "OB", bytes(4 << 20))


def test_file_that_inflates(
    tmp_path: Path, write_dicom: Writer, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deflated like a zip: 4 MiB of zeros in 4 kB, where 3 MiB are free."""

    def change(number: int, image: Any) -> None:
        image.ensure_file_meta()
        image.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        private(number, image)

    monkeypatch.setattr("pmtool.system.limits.free_memory", lambda: 3 << 20)
    write_dicom(tmp_path / "in", VOXELS, change=change)
    arguments = ("resample", "--spacing", 1.25, tmp_path / "in", tmp_path / "out.nrrd")
    refused(7, "are free; end other programs", *arguments)


@pytest.mark.parametrize("make", [series(change=private), first(lying(0xFFFFFFF0))])
def test_what_does_no_harm(make: Any, tmp_path: Path, write_dicom: Writer) -> None:
    """Megabytes of private tags, and a length of 4 GiB where all pixels are there."""
    volume = load_volume(make(tmp_path, write_dicom))
    np.testing.assert_array_equal(volume.slices, VOXELS)


def test_a_zip_is_unpacked_to_nowhere_else(tmp_path: Path, write_dicom: Writer) -> None:
    """The member's name is taken as a path below a fresh folder, which is gone afterwards."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, file in enumerate(write_dicom(tmp_path / "in", VOXELS)):
            archive.write(file, f"a/b/{number}.dcm")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    before = sorted(tmp_path.rglob("*"))
    assert load_volume(tmp_path / "a.zip").slices.shape == VOXELS.shape
    assert sorted(tmp_path.rglob("*")) == before


def test_no_folder_for_temporary_files(
    tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zipped(("a.dcm", b""))(tmp_path, lambda *_, **__: [])
    arguments = ("resample", "--spacing", 1.25, source, tmp_path / "out.nrrd")
    with monkeypatch.context() as machine:  # as pytest has temporary files too
        machine.setattr("tempfile.tempdir", None)
        machine.setattr("tempfile._candidate_tempdir_list", list)
        refused(6, "there is no folder for temporary files", *arguments)
