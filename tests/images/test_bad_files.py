"""Image files that are refused: damaged, lying, of other content or geometry."""

from __future__ import annotations

import gzip
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from pmtool.images.image_file import read_image

Make = Callable[[sitk.Image, Path], Path]


class Bad(NamedTuple):
    """How a bad file is made in a folder from a CT, the exit code, and a part of the message."""

    make: Make
    code: int
    message: str


def written(name: str, change: Callable[[bytes], bytes], packed: bool = False) -> Make:
    """A file that ITK writes, with other bytes."""

    def make(ct: sitk.Image, folder: Path) -> Path:
        path = folder / name
        sitk.WriteImage(ct, str(path), useCompression=packed)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def replaced(name: str, old: str, new: str) -> Make:
    """A file that ITK writes, with other words in its header."""
    return written(name, lambda content: content.replace(old.encode(), new.encode(), 1))


def packed(place: int, form: str, *values: float) -> Make:
    """A NIfTI file with other numbers at a place of its header."""

    def change(content: bytes) -> bytes:
        number = struct.pack(f"<{form}", *values)
        return content[:place] + number + content[place + len(number) :]

    return written("a.nii", change)


def changed(name: str, change: Callable[[sitk.Image], sitk.Image]) -> Make:
    """Another image."""

    def make(ct: sitk.Image, folder: Path) -> Path:
        sitk.WriteImage(change(ct), str(folder / name))
        return folder / name

    return make


def sheared(ct: sitk.Image) -> sitk.Image:
    ct.SetDirection([1, 0.3, 0, 0, 1, 0, 0, 0, 1])
    return ct


def content(name: str, text: bytes) -> Make:
    def make(_: sitk.Image, folder: Path) -> Path:
        (folder / name).write_bytes(text)
        return folder / name

    return make


def nrrd(*lines: str, sizes: str = "10 12 5", more: int = 99) -> Make:
    """An NRRD file of a header and some bytes."""
    begin = ("NRRD0004", "type: short", "dimension: 3", f"sizes: {sizes}", "endian: little")
    return content("a.nrrd", "\n".join((*begin, *lines, "", "")).encode() + bytes(more))


def mhd(last: str, *lines: str, dimensions: str = "3", sizes: str = "10 12 5") -> Make:
    """A MetaImage header."""
    begin = ("ObjectType = Image", f"NDims = {dimensions}", f"DimSize = {sizes}")
    text = "\n".join((*begin, *lines, "ElementType = MET_SHORT", f"ElementDataFile = {last}", ""))
    return content("a.mhd", text.encode())


def linked(ct: sitk.Image, folder: Path) -> Path:
    (folder / "below").mkdir()
    (folder / "secret").write_bytes(bytes(1200))
    (folder / "below" / "a.raw").symlink_to(folder / "secret")
    return nrrd("encoding: raw", "data file: a.raw")(ct, folder / "below")


def sparse(ct: sitk.Image, folder: Path) -> Path:
    """All of its 16 GiB are there, in a file with a hole."""
    path = nrrd("encoding: raw", "spacings: 1 1 2", sizes="65536 65536 2")(ct, folder)
    os.truncate(path, (16 << 30) + 4096)
    return path


def unreadable(ct: sitk.Image, folder: Path) -> Path:
    """A name of Latin-1, for which ITK ends the process."""
    path = folder / os.fsdecode(b"M\xfcller.nrrd")
    sitk.WriteImage(ct, str(folder / "a.nrrd"))
    return (folder / "a.nrrd").rename(path)


def picture(name: str) -> Make:
    def make(_: sitk.Image, folder: Path) -> Path:
        Image.new("L", (8, 8)).save(folder / name, "png")
        return folder / name

    return make


def pipe(_: sitk.Image, folder: Path) -> Path:
    os.mkfifo(folder / "a.nrrd")
    return folder / "a.nrrd"


def with_value(value: float) -> Callable[[sitk.Image], sitk.Image]:
    def change(ct: sitk.Image) -> sitk.Image:
        image: sitk.Image = sitk.Cast(ct, sitk.sitkFloat32)
        image[2, 2, 2] = value
        return image

    return change


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


ELSEWHERE = "a single file in the same folder is read"
SHORT = "cannot hold the"
GARBLED = "lacks or garbles"
NAN = float("nan")

BAD = {
    "missing": Bad(lambda _, folder: folder / "none.nrrd", 3, "does not exist; give"),
    "pipe": Bad(pipe, 3, "does not exist; give"),
    "empty": Bad(content("a.nrrd", b""), 3, "it does not begin as one"),
    "name": Bad(unreadable, 3, "has a name that is not UTF-8"),
    "long name": Bad(lambda _, folder: folder / f"{'a' * 300}.nrrd", 3, "cannot be read ("),
    "text": Bad(content("a.nrrd", b"hello\n"), 3, "it does not begin as one"),
    "suffix": Bad(content("a.txt", b"hello\n"), 3, "is no CT volume that pmtool reads"),
    "png": Bad(picture("a.png"), 3, "is no CT volume that pmtool reads"),
    "jpeg": Bad(picture("a.jpg"), 3, "is no CT volume that pmtool reads"),
    "tiff": Bad(picture("a.tif"), 3, "is no CT volume that pmtool reads"),
    "renamed": Bad(picture("a.nrrd"), 3, "it does not begin as one"),
    "nrrd cut": Bad(written("a.nrrd", half), 3, SHORT),
    "nrrd packed cut": Bad(written("a.nrrd", half, packed=True), 3, "is truncated:"),
    "nrrd endless": Bad(content("a.nrrd", b"NRRD0004\n" + b"#\n" * 2**20), 3, "does not end"),
    "nrrd negative": Bad(nrrd("encoding: raw", sizes="10 -12 5"), 3, "its header gives the size"),
    "nrrd zero": Bad(nrrd("encoding: raw", sizes="10 0 5"), 3, "its header gives the size"),
    "nrrd words": Bad(nrrd("encoding: raw", sizes="a b c"), 3, GARBLED),
    "nrrd encoding": Bad(nrrd("encoding: rot13"), 3, GARBLED),
    "nrrd bzip2": Bad(nrrd("encoding: bzip2"), 3, "is packed by bzip2"),
    "nrrd type": Bad(replaced("a.nrrd", "type: short", "type: block"), 3, GARBLED),
    "nrrd twice": Bad(nrrd("encoding: raw", "sizes: 1 1 1"), 3, "gives sizes twice"),
    "nrrd huge": Bad(nrrd("encoding: gzip", sizes="9999999 9999999 9999999"), 3, SHORT),
    "nrrd large": Bad(sparse, 7, "lift the limit with --allow-large"),
    "nrrd absolute": Bad(nrrd("encoding: raw", "data file: /etc/passwd"), 3, ELSEWHERE),
    "nrrd above": Bad(nrrd("encoding: raw", "datafile: ../secret"), 3, ELSEWHERE),
    "nrrd before": Bad(nrrd("encoding: gzip", "byte skip: -999"), 3, "start before the file"),
    "nrrd list": Bad(nrrd("encoding: raw", "data file: LIST"), 3, ELSEWHERE),
    "nrrd pattern": Bad(nrrd("encoding: raw", "data file: a%d.raw 1 5 1"), 3, ELSEWHERE),
    "nrrd gone": Bad(nrrd("encoding: raw", "data file: none.raw"), 3, "is not in its folder"),
    "nrrd link": Bad(linked, 3, "is not in its folder"),
    "nrrd no spacing": Bad(nrrd("encoding: raw", more=1200), 4, "has no spacing"),
    "nrrd half a spacing": Bad(replaced("a.nrrd", "(0,0,2.5)", "none"), 4, "has no spacing"),
    "nrrd units": Bad(
        replaced("a.nrrd", "kinds:", 'space units: "mm" "mm" "cm"\nkinds:'), 4, "gives lengths in"
    ),
    "nrrd spacing": Bad(replaced("a.nrrd", "(0,0,2.5)", "(0,0,nan)"), 3, "is truncated, damaged"),
    "nrrd origin": Bad(replaced("a.nrrd", "(-11,", "(inf,"), 3, "is truncated, damaged"),
    "meta cut": Bad(written("a.mha", half), 3, SHORT),
    "meta packed less": Bad(
        written("a.mha", lambda b: re.sub(rb"(DataSize = \d+)\d", rb"\1", b), packed=True),
        3,
        "is truncated:",
    ),
    "meta packed cut": Bad(written("a.mha", half, packed=True), 3, "is truncated:"),
    "meta absolute": Bad(mhd("/etc/passwd"), 3, ELSEWHERE),
    "meta above": Bad(mhd("../secret"), 3, ELSEWHERE),
    "meta list": Bad(mhd("LIST"), 3, ELSEWHERE),
    "meta pattern": Bad(mhd("a%d.raw 1 5 1"), 3, ELSEWHERE),
    "meta gone": Bad(mhd("none.raw"), 3, "is not in its folder"),
    "meta dimensions": Bad(mhd("LOCAL", dimensions="99999"), 3, "dimensions and 3 sizes"),
    "meta huge": Bad(mhd("LOCAL", sizes="99999 99999 99999"), 3, SHORT),
    "meta no spacing": Bad(replaced("a.mha", "ElementSpacing", "Comment"), 4, "has no spacing"),
    "meta units": Bad(
        replaced("a.mha", "ElementSpacing", "DistanceUnits = um\nElementSpacing"),
        4,
        "gives lengths in",
    ),
    "meta words": Bad(mhd("LOCAL", "hello"), 3, "no MetaImage file"),
    "meta long": Bad(mhd("LOCAL", "Comment = " + "a" * 9999), 3, "no MetaImage file"),
    "nifti cut": Bad(written("a.nii", half), 3, SHORT),
    "nifti packed cut": Bad(written("a.nii.gz", half), 3, "is truncated:"),
    "nifti tail cut": Bad(written("a.nii.gz", lambda c: c[:-99]), 3, "is truncated:"),
    "nifti no gzip": Bad(content("a.nii.gz", b"hello"), 3, "damaged or no NIfTI file"),
    "nifti bomb": Bad(content("a.nii.gz", gzip.compress(bytes(2**24))), 3, "does not begin as"),
    "nifti empty": Bad(content("a.nii", b""), 3, "does not begin as"),
    "nifti negative": Bad(packed(42, "h", -10), 3, "its header gives the size"),
    "nifti overflow": Bad(packed(40, "8h", 3, *(32767,) * 3, 1, 1, 1, 1), 3, SHORT),
    "nifti dimensions": Bad(packed(40, "h", 9), 3, "its header gives 9 dimensions"),
    "nifti offset": Bad(packed(108, "f", 1e9), 3, SHORT),
    "nifti offset below": Bad(packed(108, "f", -352.0), 3, "its voxels start at byte"),
    "nifti no offset": Bad(packed(108, "f", NAN), 3, "its voxels start at byte"),
    "nifti spacing": Bad(packed(80, "f", NAN), 3, "its spacing is not finite"),
    "nifti no spacing": Bad(packed(88, "f", 0.0), 4, "has no spacing"),
    "nifti negative spacing": Bad(packed(88, "f", -2.5), 4, "negative spacing"),
    "nifti metres": Bad(packed(123, "B", 1), 4, "gives lengths in"),
    "nifti slope": Bad(packed(112, "f", 1e-30), 3, "it scales its values by"),
    "nifti intercept": Bad(packed(112, "2f", 1.0, NAN), 3, "it scales its values by"),
    "nifti 2": Bad(packed(0, "i", 540), 3, "NIfTI-2, which ITK does not read"),
    "nifti qform": Bad(packed(268, "f", NAN), 3, "its qform is not finite"),
    "nifti sform": Bad(packed(292, "f", NAN), 3, "its sform is not finite"),
    "nifti bits": Bad(packed(72, "h", 1), 3, "have type 4 and 1 bits"),
    "not a number": Bad(changed("a.nrrd", with_value(NAN)), 5, "has NaN or infinite voxels"),
    "infinite": Bad(changed("a.mha", with_value(np.inf)), 5, "has NaN or infinite voxels"),
    "colour": Bad(changed("a.nrrd", lambda ct: sitk.Compose(ct, ct, ct)), 5,
                  "values a voxel (colour, vectors or overlapping segments)"),
    "eight bits": Bad(
        changed("a.nii", lambda ct: sitk.Cast(ct > 0, sitk.sitkUInt8)), 5, "which cannot hold HU"
    ),
    "grey": Bad(changed("a.nrrd", lambda ct: sitk.Abs(ct)), 5, "cannot be in HU"),
    "normalised": Bad(
        changed("a.nrrd", lambda ct: sitk.Normalize(sitk.Cast(ct, sitk.sitkFloat32))),
        5,
        "cannot be in HU",
    ),
    "enormous": Bad(changed("a.nrrd", lambda ct: sitk.Cast(ct, sitk.sitkInt32) * 1000), 5,
                    "cannot be in HU"),
    "windowed": Bad(changed("a.nrrd", lambda ct: sitk.Clamp(ct, ct.GetPixelID(), -160, 240)), 5,
                    "are cut off at the lower end"),
    "four axes": Bad(changed("a.nrrd", lambda ct: sitk.JoinSeries([ct, ct])), 4, "dimensions"),
    "two axes": Bad(changed("a.mha", lambda ct: ct[:, :, 0]), 4, "dimensions"),
    "single": Bad(changed("a.nrrd", lambda ct: ct[:, :, 2:3]), 4, "has a single slice"),
    "sheared": Bad(changed("a.nrrd", sheared), 4, "not at right angles"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_image(name: str, ct: sitk.Image, tmp_path: Path, refused: Any) -> None:
    make, code, message = BAD[name]
    path = make(ct, tmp_path)
    refused(code, message, "resample", "--spacing", 1.25, path, tmp_path / "out.nrrd")


def test_a_locale_that_is_not_utf_8(
    ct_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    """ITK would take other bytes for the name than Python."""
    monkeypatch.setattr(os, "fsencode", lambda path: str(path).encode("latin-1"))
    told, source = "which this locale takes for something else", tmp_path / "JosÃ©.nrrd"
    ct_path.rename(source)
    refused(3, told, "resample", "--spacing", 1.25, source, tmp_path / "out.nrrd")
    refused(2, told, "resample", "--spacing", 1.25, tmp_path, tmp_path / "Ã©.nrrd")


def test_more_than_the_memory_that_is_free(
    tmp_path: Path, ct: sitk.Image, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    monkeypatch.setattr("pmtool.system.limits.free_memory", lambda: 2**30)
    path = sparse(ct, tmp_path)
    arguments = ("resample", "--spacing", 1.25, "--allow-large", path, tmp_path / "out.nrrd")
    refused(7, "are free; end other programs", *arguments)


def test_a_detached_file_in_the_same_folder_is_read(ct: sitk.Image, tmp_path: Path) -> None:
    for name in ("a.nhdr", "b.mhd"):
        sitk.WriteImage(ct, str(tmp_path / name))
        assert read_image(tmp_path / name).GetSize() == ct.GetSize()
    header = (tmp_path / "a.nhdr").read_text()
    (tmp_path / "a.nhdr").write_text(header.replace("data file: ", "data file: ./"))
    assert read_image(tmp_path / "a.nhdr").GetSize() == ct.GetSize()
