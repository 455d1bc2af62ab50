"""Every transfer syntax that users meet, and values in HU."""

from __future__ import annotations

import errno
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import uid

from pmtool.dicom import decoder
from pmtool.errors import ContentError, InputError, OutputError, PmtoolError
from pmtool.loading import load_volume

Writer = Callable[..., list[Path]]
LOSSLESS_BY_DCMTK = {
    uid.JPEGLossless: ("dcmcjpeg", "+el"),
    uid.JPEGLosslessSV1: ("dcmcjpeg", "+e1"),
    uid.JPEGLSLossless: ("dcmcjpls", "+el"),
    uid.RLELossless: ("dcmcrle",),
    uid.DeflatedExplicitVRLittleEndian: ("dcmconv", "+td"),
    uid.ExplicitVRBigEndian: ("dcmconv", "+tb"),
    uid.ImplicitVRLittleEndian: ("dcmconv", "+ti"),
}


@pytest.fixture
def voxels() -> NDArray[np.int16]:
    return np.random.default_rng(5).integers(-1000, 1000, (4, 36, 40)).astype(np.int16)


def signed(number: int, slice_: pydicom.Dataset) -> None:
    """Store HU themselves, and padding far below."""
    values = np.frombuffer(slice_.PixelData, "<u2").astype("<i2") - 1024
    values[:3] = -2000
    slice_.PixelData = values.astype("<i2").tobytes()
    slice_.PixelRepresentation, slice_.RescaleIntercept = 1, 0
    slice_.BitsStored, slice_.HighBit = 16, 15


def transcode(files: list[Path], program: str, *options: str) -> None:
    """By a program of DCMTK or GDCM, in place."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    for file in files:
        out = file.with_suffix(".out")
        command = [program, *options, str(file), str(out)]
        subprocess.run(command, check=True, capture_output=True)
        out.replace(file)


def hounsfield(folder: Path) -> NDArray[Any]:
    values: NDArray[Any] = sitk.GetArrayFromImage(load_volume(folder).image)
    return values


@pytest.mark.parametrize("syntax", LOSSLESS_BY_DCMTK, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("change", [None, signed])
def test_lossless_by_dcmtk(
    syntax: uid.UID, change: Any, voxels: Any, tmp_path: Path, write_dicom: Writer
) -> None:
    files = write_dicom(tmp_path / "a", voxels, change=change)
    transcode(files, *LOSSLESS_BY_DCMTK[syntax])
    assert pydicom.dcmread(files[0]).file_meta.TransferSyntaxUID == syntax
    expected = voxels.copy()
    if change is signed:
        expected[:, 0, :3] = -2000
    volume = load_volume(tmp_path / "a")
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume.slices, expected)


def test_a_decoder_that_does_not_end(
    voxels: Any, tmp_path: Path, write_dicom: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_dicom(tmp_path / "a", voxels)[0]
    slice_ = pydicom.dcmread(file)
    slice_.compress(uid.RLELossless)
    slice_.save_as(file)
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr("pmtool.dicom.gdcm.__file__", str(tmp_path / "endless.py"))
    monkeypatch.setattr(decoder, "_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(InputError, match="is a damaged DICOM file"):
        load_volume(tmp_path / "a")
    assert time.monotonic() - start < 30


def test_a_decoder_that_cannot_be_started(
    voxels: Any, tmp_path: Path, write_dicom: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that need no decoder are read without one, and the others are not called damaged."""

    def no_process(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    def no_folder() -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    file = write_dicom(tmp_path / "a", voxels)[0]
    monkeypatch.setattr("subprocess.Popen", no_process)
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryDirectory", no_folder)
        load_volume(tmp_path / "a")
    slice_ = pydicom.dcmread(file)
    slice_.compress(uid.RLELossless)
    slice_.save_as(file)
    with pytest.raises(PmtoolError, match=r"no process .* \(Resource temporarily unavailable\)"):
        load_volume(tmp_path / "a")
    monkeypatch.setattr("tempfile.TemporaryDirectory", no_folder)
    with pytest.raises(PmtoolError, match=r"No usable temporary directory.* or set TMPDIR"):
        load_volume(tmp_path / "a")


@pytest.mark.parametrize("option", ["--jpeg", "--jpegls", "--j2k", "--rle"])
def test_lossless_by_gdcm(option: str, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    files = write_dicom(tmp_path / "a", voxels, change=signed)
    before = hounsfield(tmp_path / "a")
    transcode(files, "gdcmconv", option)
    np.testing.assert_array_equal(hounsfield(tmp_path / "a"), before)


@pytest.mark.parametrize(
    ("syntax", "encoder"),
    [
        (uid.JPEG2000Lossless, "openjpeg"),
        (uid.JPEGLSLossless, "jpeg_ls"),
        (uid.RLELossless, "numpy"),
    ],
    ids=["JPEG2000Lossless", "JPEGLSLossless", "RLELossless"],
)
@pytest.mark.parametrize("change", [None, signed])
def test_lossless_by_pydicom(
    syntax: uid.UID, encoder: str, change: Any, voxels: Any, tmp_path: Path, write_dicom: Writer
) -> None:
    pytest.importorskip(encoder)
    files = write_dicom(tmp_path / "a", voxels, change=change)
    before = hounsfield(tmp_path / "a")
    for file in files:
        slice_ = pydicom.dcmread(file)
        slice_.compress(syntax)
        slice_.save_as(file)
    np.testing.assert_array_equal(hounsfield(tmp_path / "a"), before)


@pytest.mark.parametrize(
    ("encoder", "decoder", "most"),
    [
        (("dcmcjpeg", "+ee"), "dcmdjpeg", 100),
        (("dcmcjpls", "+en", "+md", "3"), "dcmdjpls", 3),
    ],
    ids=["JPEGExtended12Bit", "JPEGLSNearLossless"],
)
def test_lossy(
    encoder: tuple[str, ...],
    decoder: str,
    most: int,
    voxels: Any,
    tmp_path: Path,
    write_dicom: Writer,
) -> None:
    """What DCMTK decodes, and not far from what was there."""
    files = write_dicom(tmp_path / "a", voxels // 8)
    transcode(files, *encoder)
    found = hounsfield(tmp_path / "a").astype(int)
    assert 0 < np.abs(found - voxels // 8).max() <= most
    transcode(files, decoder)
    assert np.abs(found - hounsfield(tmp_path / "a")).max() <= 1


def test_high_throughput_jpeg_2000(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    files = write_dicom(tmp_path / "a", voxels)
    if shutil.which("ojph_compress") is None:
        pytest.skip("ojph_compress is not installed")
    for file in files:
        slice_ = pydicom.dcmread(file)
        rows, columns = slice_.Rows, slice_.Columns
        plain, stream = file.with_suffix(".pgm"), file.with_suffix(".j2c")
        values = np.frombuffer(slice_.PixelData, "<u2").astype(">u2")
        plain.write_bytes(b"P5 %d %d 4095\n" % (columns, rows) + values.tobytes())
        options = ["-reversible", "true", "-num_decomps", "2"]
        command = ["ojph_compress", "-i", str(plain), "-o", str(stream), *options]
        subprocess.run(command, check=True, capture_output=True)
        slice_.PixelData = pydicom.encaps.encapsulate([stream.read_bytes()])
        slice_["PixelData"].is_undefined_length = True
        slice_.file_meta.TransferSyntaxUID = uid.HTJ2KLossless
        slice_.save_as(file)
    np.testing.assert_array_equal(hounsfield(tmp_path / "a"), voxels)


def test_slopes_of_their_own(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    def change(number: int, slice_: pydicom.Dataset) -> None:
        slice_.RescaleSlope, slice_.RescaleIntercept = number + 1, -1000 - number

    write_dicom(tmp_path / "a", voxels // 8, change=change)
    slices = np.arange(len(voxels))[:, None, None]
    expected = (voxels // 8 + 1024) * (slices + 1) - 1000 - slices
    volume = load_volume(tmp_path / "a")
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume.slices, expected)


def test_broken_slopes_give_floats(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    write_dicom(tmp_path / "a", voxels, RescaleSlope=0.5, RescaleIntercept=-512)
    volume = load_volume(tmp_path / "a")
    assert volume.dtype == np.float32
    np.testing.assert_array_equal(volume.slices, voxels * np.float32(0.5))


def test_values_beyond_16_bits(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    def change(number: int, slice_: pydicom.Dataset) -> None:
        signed(number, slice_)
        values = np.frombuffer(slice_.PixelData, "<i2").copy()
        values[:3] = -32768
        slice_.PixelData, slice_.RescaleIntercept = values.tobytes(), -1024

    write_dicom(tmp_path / "a", voxels, change=change)
    volume = load_volume(tmp_path / "a")
    assert volume.dtype == np.int32
    assert (volume.slices[:, 0, :3] == -33792).all()
    np.testing.assert_array_equal(volume.slices[:, 1:], voxels[:, 1:].astype(int) - 1024)


def test_bits_that_are_not_used(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    """Old scanners kept overlays in them."""

    def change(number: int, slice_: pydicom.Dataset) -> None:
        slice_.PixelData = (np.frombuffer(slice_.PixelData, "<u2") | 0x5000).tobytes()

    write_dicom(tmp_path / "a", voxels, change=change)
    np.testing.assert_array_equal(hounsfield(tmp_path / "a"), voxels)


def test_without_rescale(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    def all_without(number: int, slice_: pydicom.Dataset) -> None:
        del slice_.RescaleSlope, slice_.RescaleIntercept

    def one_without(number: int, slice_: pydicom.Dataset) -> None:
        if number == 2:
            all_without(number, slice_)

    write_dicom(tmp_path / "all", voxels, change=all_without)
    np.testing.assert_array_equal(hounsfield(tmp_path / "all"), voxels + 1024)
    write_dicom(tmp_path / "one", voxels, change=one_without)
    with pytest.raises(ContentError, match=r"some slices of .* have no RescaleSlope"):
        load_volume(tmp_path / "one")


def test_colour(voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    write_dicom(tmp_path / "a", voxels, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    with pytest.raises(ContentError, match="colour"):
        load_volume(tmp_path / "a")


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated(compressed: bool, voxels: Any, tmp_path: Path, write_dicom: Writer) -> None:
    file = write_dicom(tmp_path / "a", voxels)[2]
    if compressed:
        slice_ = pydicom.dcmread(file)
        slice_.compress(uid.RLELossless)
        slice_.save_as(file)
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(InputError, match=f"{file} is a damaged DICOM file: copy it again"):
        load_volume(tmp_path / "a")


@pytest.mark.parametrize("room", [200, 2000])
def test_no_room_for_temporary_files(
    room: int, voxels: Any, tmp_path: Path, write_dicom: Writer
) -> None:
    """Whether for a compressed frame or for its pixels: the file is not at fault."""
    for file in write_dicom(tmp_path / "a", np.zeros_like(voxels)):
        slice_ = pydicom.dcmread(file)
        slice_.compress(uid.RLELossless)
        slice_.save_as(file)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(
            OutputError, match=r"cannot be written: .*; make room there, or set TMP"
        ):
            load_volume(tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not hounsfield(tmp_path / "a").any()


def jpeg(bits: int, rows: int, columns: int) -> bytes:
    """Nothing but headers."""
    size = rows.to_bytes(2) + columns.to_bytes(2)
    return b"\xff\xd8\xff\xe0\0\4ab\xff\xc3\0\x0b%c%b\1\1\x11\0" % (bits, size)


@pytest.mark.parametrize("frame", [bytes(500), jpeg(149, 36, 40), jpeg(12, 60000, 40)])
@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEG2000Lossless, uid.RLELossless])
def test_pixels_that_make_decoders_crash(
    frame: bytes,
    syntax: uid.UID,
    voxels: Any,
    tmp_path: Path,
    write_dicom: Writer,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = write_dicom(tmp_path / "a", voxels)[2]
    slice_ = pydicom.dcmread(file)
    slice_.PixelData = pydicom.encaps.encapsulate([frame])
    slice_["PixelData"].is_undefined_length = True
    slice_.file_meta.TransferSyntaxUID = syntax
    slice_.save_as(file)
    with pytest.raises(InputError, match=f"{file} is a damaged DICOM file"):
        load_volume(tmp_path / "a")
    assert capfd.readouterr() == ("", "")
