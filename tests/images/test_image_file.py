import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.choices import FORMATS
from pmtool.errors import (
    ContentError,
    GeometryError,
    InputError,
    OutputError,
    UsageError,
    exit_code,
)
from pmtool.images.image_file import read_image, write_image
from pmtool.images.names import check_format, image_suffix, is_written
from pmtool.images.silence import quiet_itk
from pmtool.loading import load_volume

SUFFIXES = [f".{f}" for f in FORMATS]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(ct: sitk.Image, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(ct, path)
    found = read_image(path)
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(ct))
    assert found.GetSpacing() == pytest.approx(ct.GetSpacing())
    assert found.GetOrigin() == pytest.approx(ct.GetOrigin())
    assert {file.name.split(".")[0] for file in tmp_path.iterdir()} == {"a"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_files(
    ct: sitk.Image, tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(ct, str(path), useCompression=False)
    data = tmp_path / "a.raw" if suffix == ".mhd" else path
    data.write_bytes(data.read_bytes()[: int(data.stat().st_size * 0.7)])
    with pytest.raises(InputError, match=path.name):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_missing_folders_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "text.nrrd").write_text("hello")
    for path in (tmp_path, tmp_path / "none.nrrd", tmp_path / "text.nrrd"):
        with pytest.raises(InputError, match=path.name):
            read_image(path)


def test_a_space_without_a_name_is_that_of_dicom(ct: sitk.Image, tmp_path: Path) -> None:
    """As ITK reads it."""
    path = tmp_path / "a.nrrd"
    write_image(ct, path)
    named, unnamed = b"space: left-posterior-superior", b"space dimension: 3"
    assert named in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(named, unnamed))
    found = load_volume(path)
    assert not found.grid_differences(ct, [5])
    assert np.array_equal(found.slices, sitk.GetArrayFromImage(ct))


def test_a_list_of_one_value_is_a_voxel(ct: sitk.Image, tmp_path: Path) -> None:
    """ITK makes vectors of them."""
    path = tmp_path / "a.nrrd"
    header = (
        "NRRD0004",
        "type: short",
        "dimension: 4",
        "sizes: 1 10 12 5",
        "encoding: raw",
        "endian: little",
        "kinds: list domain domain domain",
        "space: left-posterior-superior",
        "space directions: none (0.7,0,0) (0,0.7,0) (0,0,2.5)",
        "space origin: (-11,7.5,-300.25)",
    )
    content = sitk.GetArrayFromImage(ct).tobytes()
    path.write_bytes("\n".join((*header, "", "")).encode() + content)
    found = read_image(path)
    assert found.GetPixelID() == ct.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(ct))
    assert found.GetSpacing() == ct.GetSpacing()


def test_colour_and_dimensions(tmp_path: Path) -> None:
    path = str(tmp_path / "a.nrrd")
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkVectorInt16, 3), path)
    with pytest.raises(ContentError, match="3 values"):
        read_image(Path(path))
    sitk.WriteImage(sitk.Image([4, 4, 4, 2], sitk.sitkInt16), path)
    with pytest.raises(GeometryError, match="4 dimensions"):
        read_image(Path(path))
    sitk.WriteImage(sitk.Image([4, 4], sitk.sitkInt16), path)
    with pytest.raises(GeometryError, match="2 dimensions"):
        read_image(Path(path))
    sitk.WriteImage(sitk.Image([4, 4, 4, 1], sitk.sitkInt16), path)
    assert read_image(Path(path)).GetDimension() == 3


def _skew_nifti(ct: sitk.Image, path: Path, skew: float) -> None:
    """Shear the sform of a NIfTI file and take its qform away."""
    sitk.WriteImage(ct, str(path))
    content = bytearray(path.read_bytes())
    content[252:256] = struct.pack("<2h", 0, 1)
    content[76:92] = struct.pack("<4f", 1, 0.7, 0.7, 2.5)
    content[280:328] = struct.pack("<12f", 0.7, 0.7 * skew, 0, 0, 0, 0.7, 0, 0, 0, 0, 2.5, 0)
    path.write_bytes(content)


def test_slightly_skewed_nifti_is_repaired(
    ct: sitk.Image, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.nii"
    _skew_nifti(ct, path, 0.005)
    with pytest.warns(UserWarning, match="skewed"):
        image = load_volume(path).image
    direction = np.array(image.GetDirection()).reshape(3, 3)
    assert direction.T @ direction == pytest.approx(np.eye(3), abs=1e-6)
    assert capfd.readouterr() == ("", "")


def test_sheared_volumes_are_refused(ct: sitk.Image, tmp_path: Path) -> None:
    _skew_nifti(ct, tmp_path / "a.nii", 0.3)
    ct.SetDirection([1, 0.3, 0, 0, 1, 0, 0, 0, 1])
    sitk.WriteImage(ct, str(tmp_path / "a.nrrd"))
    for name in ("a.nii", "a.nrrd"):
        with pytest.raises(GeometryError, match="right angles"):
            load_volume(tmp_path / name)


def test_damaged_gzip(ct: sitk.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(ct, str(tmp_path / "a.nii"))
    path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes())[:-200])
    with pytest.raises(InputError):
        read_image(path)


def _in_streams(content: bytes, count: int) -> bytes:
    """Gzipped in so many streams, as bgzip and pgzip do."""
    step = -(-len(content) // count)
    return b"".join(gzip.compress(content[i : i + step]) for i in range(0, len(content), step))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("count", [2, 9])
def test_gzip_of_several_streams(tmp_path: Path, suffix: str, count: int) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 1000, (30, 40, 50)).astype(np.int16)
    image, path = sitk.GetImageFromArray(voxels), tmp_path / f"a{suffix}"
    raw = tmp_path / "raw.nii" if suffix == ".nii.gz" else tmp_path / "raw.nrrd"
    sitk.WriteImage(image, str(raw))
    header = raw.read_bytes()[: -voxels.nbytes]
    if suffix == ".nii.gz":
        whole = _in_streams(raw.read_bytes(), count)
    else:
        whole = header.replace(b"raw", b"gzip") + _in_streams(voxels.tobytes(), count)
    path.write_bytes(whole + bytes(20))
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), voxels)
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
@pytest.mark.parametrize(("skip", "before"), [(7, 7), (900, 900), (-1, 0), (-1, 40)])
def test_bytes_that_are_skipped_after_unpacking(
    ct: sitk.Image, tmp_path: Path, name: str, skip: int, before: int
) -> None:
    header = [
        *("NRRD0004", "type: short", "dimension: 3", "sizes: 10 12 5", "spacings: 1 1 2.5"),
        *("encoding: gzip", "endian: little", f"byte skip: {skip}"),
        *(["data file: a.raw.gz"] if name == "a.nhdr" else []),
    ]
    path, voxels = tmp_path / name, sitk.GetArrayFromImage(ct)
    start = "\n".join((*header, "", "")).encode()

    def write(packed: bytes) -> None:
        path.write_bytes(start if name == "a.nhdr" else start + packed)
        (tmp_path / "a.raw.gz").write_bytes(packed)

    packed = gzip.compress(b"x" * before + voxels.tobytes())
    write(packed)
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), voxels)
    write(packed[:-200])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


def test_a_second_stream_that_itk_does_not_read(tmp_path: Path) -> None:
    image, path = sitk.Image([9, 9, 4], sitk.sitkInt16), tmp_path / "a.mha"
    sitk.WriteImage(image, str(path))
    header = path.read_bytes()[: -2 * 9 * 9 * 4].replace(b"Data = False", b"Data = True")
    path.write_bytes(header + _in_streams(bytes(2 * 9 * 9 * 4), 2))
    with pytest.raises(InputError, match="truncated: 324 of 648"):
        read_image(path)


def test_a_failed_write_leaves_nothing(ct: sitk.Image, tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").mkdir()
    (tmp_path / "a.nrrd" / "full").touch()
    with pytest.raises(OutputError):
        write_image(ct, tmp_path / "a.nrrd")
    with pytest.raises(OutputError):
        write_image(ct, tmp_path / "none" / "a.nrrd")
    assert [p.name for p in tmp_path.iterdir()] == ["a.nrrd"]


def test_memory_that_is_short_is_no_full_disk(
    ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object, **__: object) -> None:
        raise RuntimeError("Exception thrown in SimpleITK WriteImage: std::bad_alloc")

    monkeypatch.setattr(sitk, "WriteImage", short)
    with pytest.raises(RuntimeError) as raised:
        write_image(ct, tmp_path / "a.nrrd")
    assert exit_code(raised.value) == 7
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_suffixes_in_capitals(ct: sitk.Image, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"A{suffix.upper()}"
    check_format(path)
    write_image(ct, path)
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), sitk.GetArrayFromImage(ct))
    data = {"A.zraw"} if suffix == ".mhd" else set()
    assert {file.name for file in tmp_path.iterdir()} == {path.name, *data}


def test_suffixes_in_letters_of_both_cases(ct: sitk.Image, tmp_path: Path) -> None:
    for name in ("a.Nrrd", "a.Mha"):
        write_image(ct, tmp_path / name)
        read_image(tmp_path / name)
    for name in ("a.Nii", "a.nii.GZ"):
        (tmp_path / name).touch()
        with pytest.raises(UsageError, match=f"do not know; call it a{name.lower()[1:]}"):
            check_format(tmp_path / name)
        with pytest.raises(InputError, match=f"do not know; call it a{name.lower()[1:]}"):
            read_image(tmp_path / name)


def test_voxels_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    voxels = np.arange(-30, 30, dtype=np.int16).reshape(3, 4, 5)
    header = ("NDims = 3", "DimSize = 5 4 3", "ElementSpacing = 1 1 2.5", "BinaryData = False")
    last = ("ElementType = MET_SHORT", "ElementDataFile = LOCAL")
    path.write_text("\n".join([*header, *last, " ".join(map(str, voxels.ravel())), ""]))
    assert np.array_equal(sitk.GetArrayFromImage(read_image(path)), voxels)


@pytest.mark.parametrize("name", ["50%.mhd", "LIST of slices.mhd", " a.mhd", "a\nb.mhd"])
def test_names_that_a_header_cannot_give_its_voxels(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name its voxels in its header; leave out"):
        check_format(Path(name))
    check_format(Path(name).with_suffix(".mha"))


@pytest.mark.parametrize("suffix", ["mha", "mhd"])
def test_long_entries_of_metaimage(ct: sitk.Image, tmp_path: Path, suffix: str) -> None:
    ct.SetMetaData("Note", "word " * 600)
    sitk.WriteImage(ct, str(tmp_path / f"ct.{suffix}"))
    assert read_image(tmp_path / f"ct.{suffix}").GetSize() == ct.GetSize()
    ct.SetMetaData("Comment", "c" * 300)
    sitk.WriteImage(ct, str(tmp_path / f"ct.{suffix}"))
    with pytest.raises(InputError, match="see the line 'Comment"):
        read_image(tmp_path / f"ct.{suffix}")


def test_entries_of_nrrd_with_colons(ct: sitk.Image, tmp_path: Path) -> None:
    """None of them is a field, not even one that begins as one."""
    for key in ("dcm:kvp", "dcm:mas", "type:x"):
        ct.SetMetaData(key, "120: 3")
    sitk.WriteImage(ct, str(tmp_path / "ct.nrrd"))
    assert read_image(tmp_path / "ct.nrrd").GetSize() == ct.GetSize()


def test_suffixes() -> None:
    assert image_suffix(Path("a.b.NII.GZ")) == ".nii.gz"
    assert image_suffix(Path("a.nhdr")) == ".nhdr"
    assert image_suffix(Path("a.gz")) is None
    assert [is_written(Path(f"a.{x}")) for x in ("nii.gz", "nhdr", "gz")] == [True, False, False]


def test_a_closed_standard_error(ct: sitk.Image, tmp_path: Path) -> None:
    """As that of a daemon."""
    sitk.WriteImage(ct, str(tmp_path / "ct.nrrd"))
    lines = f"import os; os.close(2); read_image(Path({str(tmp_path / 'ct.nrrd')!r}))"
    imports = "from pathlib import Path; from pmtool.images.image_file import read_image"
    done = subprocess.run([sys.executable, "-c", f"{imports}; {lines}"], check=False)
    assert done.returncode == 0


def test_threads_that_want_quiet_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    """The one that came first goes first."""
    one, other = quiet_itk(), quiet_itk()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    os.write(2, b"hidden")
    other.__exit__(None, None, None)
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"
