"""Requests that cannot be met, and outputs that cannot be written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import SimpleITK as sitk

pytestmark = pytest.mark.usefixtures("fake_sampler")


class Bad(NamedTuple):
    """The exit code, a part of the message, and arguments after the input and the output."""

    code: int
    message: str
    arguments: str


BAD = {
    "no spacing": Bad(2, "give either a spacing", ""),
    "zero": Bad(2, "must be positive", "--spacing 0"),
    "negative": Bad(2, "must be positive", "--spacing -1"),
    "not a number": Bad(2, "must be positive", "--spacing nan"),
    "a word": Bad(2, "is neither one number nor three", "--spacing thin"),
    "two signs": Bad(2, "is neither one number nor three", "--spacing=1.25=2.5"),
    "coarser": Bad(2, "coarser than", "--spacing 5"),
    "in-plane": Bad(2, "interpolates along", "--spacing 0.5 0.5 1.25"),
    "memory": Bad(2, "is not a size like 4G", "--spacing 1.25 --memory much"),
    "little memory": Bad(7, "give a larger --memory", "--spacing 1.25 --memory 1K"),
    "threads": Bad(2, "is not in the range", "--spacing 1.25 --threads 0"),
    "seed": Bad(2, "the seed must be a whole number in", "--spacing 1.25 --seed -1"),
    "window": Bad(2, "is neither pixels nor", "--spacing 1.25 --window small"),
    "thickness": Bad(2, "is not in the range", "--spacing 1.25 --thickness 0"),
    "mode": Bad(2, "is not one of", "--spacing 1.25 --mode guess"),
    "grid": Bad(2, "is not one of", "--spacing 1.25 --grid mine"),
    "option": Bad(2, "No such option", "--spacing 1.25 --sharpen"),
    "too many": Bad(2, "unexpected extra argument", "--spacing 1.25 more"),
    "input twice": Bad(2, "give IN and OUT once each", "--spacing 1.25 -i ct.nrrd"),
    "reference and spacing": Bad(2, "give either", "--spacing 1.25 --reference ct.nrrd"),
    "reference and grid": Bad(2, "is a grid of its own", "--grid ibsi --reference ct.nrrd"),
    "reference": Bad(3, "does not exist; give", "--reference none.nrrd"),
    "mask alone": Bad(2, "a mask needs both", "--spacing 1.25 --seg-out seg.nrrd"),
    "no mask": Bad(2, "is for a mask", "--spacing 1.25 --seg-interpolation shape"),
    "mask": Bad(
        5, "a mask has integers", "--spacing 1.25 --seg float.nrrd --seg-out seg.nrrd"
    ),
    "mask elsewhere": Bad(
        4, "lies on another grid", "--spacing 1.25 --seg other.nrrd --seg-out seg.nrrd"
    ),
    "CT for a mask": Bad(
        5, "a mask has labels above 0", "--spacing 1.25 --seg ct.nrrd --seg-out seg.nrrd"
    ),
    "uncertainty": Bad(
        2, "at least two samples", "--spacing 1.25 --samples 1 --uncertainty sd.nrrd"
    ),
    "many samples": Bad(
        2, "too many; draw at most", "--spacing 1.25 --samples 10001 --uncertainty sd.nrrd"
    ),
    "circle": Bad(6, "cannot be written", "--spacing 1.25 --statistics circle.json"),
    "median": Bad(
        2, "have no uncertainty", "--spacing 1.25 --samples 3 --uncertainty sd.nrrd --mode mean"
    ),
    "preview": Bad(2, "must end with .png", "--spacing 1.25 --preview a.jpg"),
    "series": Bad(2, "only DICOM has series", "--spacing 1.25 --series-uid 1.2"),
    "two outputs": Bad(6, "two outputs would be", "--spacing 1.25 --statistics out.nrrd"),
    "input is output": Bad(6, "is an input", "--spacing 1.25 --preview ct.png --overwrite"),
    "exists": Bad(6, "replace it with --overwrite", "--spacing 1.25 --statistics there.json"),
    "exists on resumption": Bad(
        6, "replace it with --overwrite", "--spacing 1.25 --statistics there.json --resume"
    ),
    "folder": Bad(6, "is a folder; name a file", "--spacing 1.25 --statistics below"),
    "pipe": Bad(6, "is a pipe or a device", "--spacing 1.25 --statistics pipe.json --overwrite"),
    "device": Bad(6, "is a pipe or a device", "--spacing 1.25 --statistics /dev/new --overwrite"),
    "link": Bad(6, "replace it with --overwrite", "--spacing 1.25 --statistics link.json"),
    "no folder": Bad(6, "does not exist; create it first", "--spacing 1.25 --statistics no/s.json"),
}  # fmt: skip
TARGETS = {
    "suffix": Bad(2, "names no image format", "out.xyz"),
    "name": Bad(2, "has a name that is not UTF-8", os.fsdecode(b"M\xfcller.nrrd")),
    "long name": Bad(6, "cannot be written: File name too long", f"{'a' * 235}.nrrd"),
    "suffix alone": Bad(2, "is a suffix alone", ".mhd"),
    "format": Bad(2, "the format asked for; change either", "out.nii --format nrrd"),
    "dicom": Bad(2, "has no patient and study", "out/ --format dicom"),
}


@pytest.fixture(autouse=True)
def folder(ct: sitk.Image, ct_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that the rows name, in the working folder."""
    folder = ct_path.parent
    monkeypatch.chdir(folder)
    sitk.WriteImage(sitk.Cast(ct, sitk.sitkFloat32) + 0.5, "float.nrrd")
    sitk.WriteImage(ct[:, :, :4], "other.nrrd")
    (folder / "ct.png").symlink_to("ct.nrrd")
    (folder / "there.json").touch()
    (folder / "link.json").symlink_to("nowhere.json")
    (folder / "circle.json").symlink_to("circle.json")
    (folder / "below").mkdir()
    os.mkfifo(folder / "pipe.json")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_bad_request(name: str, refused: Any) -> None:
    code, message, arguments = BAD[name]
    refused(code, message, "resample", "ct.nrrd", "out.nrrd", *arguments.split())


@pytest.mark.parametrize("name", TARGETS)
def test_bad_output(name: str, refused: Any) -> None:
    code, message, arguments = TARGETS[name]
    refused(code, message, "resample", "--spacing", 1.25, "ct.nrrd", *arguments.split())


def test_voxels_beside_a_header(ct: sitk.Image, refused: Any) -> None:
    """They are no less an input, or another's file, than the header."""
    sitk.WriteImage(ct, "in.mhd", useCompression=True)
    arguments = ("resample", "--spacing=1.25", "in.mhd")
    refused(6, "is an input", *arguments, "out.nrrd", "--statistics=in.zraw", "--overwrite")
    Path("out.zraw").touch()
    for more in ((), ("--resume",)):
        refused(6, "replace it with --overwrite", *arguments, "out.mhd", *more)


def test_interrupted_runs(folder: Path, fake_sampler: Any, refused: Any, capfd: Any) -> None:
    from pmtool.cli.console import run_command
    from pmtool.main import cli

    fake_sampler.interrupt_after = 2
    arguments = ("resample", "ct.nrrd", "out.nrrd", "--spacing", "1.25")
    assert run_command(cli, list(arguments)) == 130
    capfd.readouterr()
    refused(2, "go on with --resume or discard it with --overwrite", *arguments)
    refused(2, "holds a run with another seed", *arguments, "--resume", "--seed", 9)


def test_disk_without_room(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    class Usage(NamedTuple):
        free: int = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage())
    refused(
        6, "make room or choose another disk", "resample", "ct.nrrd", "o.nrrd", "--spacing=1.25"
    )


def test_folder_of_others(folder: Path, refused: Any) -> None:
    """Nothing is deleted that a journal does not consist of."""
    (folder / "out.nrrd.partial").mkdir()
    (folder / "out.nrrd.partial" / "letter.txt").touch()
    arguments = ("resample", "ct.nrrd", "out.nrrd", "--spacing", 1.25, "--overwrite")
    refused(6, "holds files that are not", *arguments)
