"""Finding the cases of a cohort and naming their outputs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.cohort.cases import Case, find_cases
from pmtool.cohort.extent import Extent, extent_of
from pmtool.cohort.request import Request
from pmtool.errors import InputError, UsageError
from pmtool.images.reading import ReadingOptions
from pmtool.loading import load_volume
from pmtool.resampling.options import Options

WriteDicom = Callable[..., list[Path]]
EXTENT = Extent(slices=5, height=12, width=10, spacing=2.5)


def put(image: sitk.Image, *paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(path))


def names(cases: list[Case]) -> list[str]:
    return [case.name for case in cases]


def test_images_of_all_formats(ct: sitk.Image, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    put(ct, scans / "b" / "two.nii.gz", scans / "b" / "deep" / "x.y.mhd", scans / "one.nrrd")
    (scans / "notes.txt").write_text("none")
    (scans / ".hidden.nrrd").touch()
    (scans / ".gone.dcm").symlink_to("nowhere")
    cases = find_cases(scans)
    assert names(cases) == ["one", "b/two", "b/deep/x.y"]
    assert [case.extent for case in cases] == [EXTENT] * 3
    request = Request(tmp_path / "out", (1.25,))
    outputs = [request.outputs(case).image for case in cases]
    assert outputs == [tmp_path / "out" / x for x in ("one.nrrd", "b/two.nii.gz", "b/deep/x.y.mhd")]


def test_a_detached_header_is_a_case(ct: sitk.Image, tmp_path: Path) -> None:
    """Read as NRRD, and written as one file."""
    put(ct, tmp_path / "in" / "ct.nhdr")
    (case,) = find_cases(tmp_path / "in")
    request = Request(tmp_path / "out", (1.25,))
    assert request.outputs(case).image == tmp_path / "out" / "ct.nrrd"


def test_an_output_folder_within_is_not_searched(ct: sitk.Image, tmp_path: Path) -> None:
    put(ct, tmp_path / "ct.nrrd", tmp_path / "out" / "ct.nrrd")
    assert names(find_cases(tmp_path, out=tmp_path / "out")) == ["ct"]


def test_dicom_series(tmp_path: Path, write_dicom: WriteDicom) -> None:
    voxels = np.zeros((4, 8, 6), np.int16)
    write_dicom(tmp_path / "p1" / "CT", voxels)
    write_dicom(tmp_path / "p2", voxels)
    write_dicom(tmp_path / "p2", voxels[:3], SeriesInstanceUID="1.2.4")
    write_dicom(tmp_path / "p2", voxels[:1], SeriesInstanceUID="1.2.5", ImageType="LOCALIZER")
    cases = find_cases(tmp_path)
    assert names(cases) == ["p1/CT", "p2/1.2.3", "p2/1.2.4"]
    assert [case.series_uid for case in cases] == ["1.2.3", "1.2.3", "1.2.4"]
    assert cases[2].extent == Extent(3, 8, 6, 2.5)
    request = Request(tmp_path / "out", (1.25,))
    assert request.outputs(cases[0]).image == tmp_path / "out" / "p1" / "CT.nrrd"


def test_a_series_in_several_folders_is_one_case(tmp_path: Path, write_dicom: WriteDicom) -> None:
    """As on CDs; a copy of a series and another patient's are cases of their own."""
    voxels = np.zeros((6, 8, 6), np.int16)
    for place, step in (("disc/every", 2), ("disc/half", 3), ("single", 6)):
        for number, file in enumerate(write_dicom(tmp_path / place, voxels, PatientID=place)):
            part = tmp_path / place / f"DIR{number % step}"
            part.mkdir(exist_ok=True)
            file.rename(part / file.name)
    write_dicom(tmp_path / "twice" / "a", voxels)
    write_dicom(tmp_path / "twice" / "b", voxels)
    cases = find_cases(tmp_path)
    assert names(cases) == ["twice/a", "twice/b", "disc/every", "disc/half", "single"]
    assert {case.extent for case in cases} == {Extent(6, 8, 6, 2.5)}
    assert {case.series_uid for case in cases} == {"1.2.3"}
    assert (
        len(load_volume(cases[2].path, ReadingOptions(series_uid=cases[2].series_uid)).slices) == 6
    )


def test_scans_without_uids_are_not_parts_of_one(tmp_path: Path, write_dicom: WriteDicom) -> None:
    """As when all patients were given the same name, and UIDs were removed."""
    for place, bottom in (("a", 0), ("b", -500)):

        def move(number: int, image: Any, bottom: float = bottom) -> None:
            image.SeriesInstanceUID = ""
            image.ImagePositionPatient = [0, 0, bottom + 2.5 * number]

        write_dicom(tmp_path / place, np.zeros((4, 8, 6), np.int16), change=move)
    assert names(find_cases(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"a": "01234", "b": "45678"}, [""]),  # an image in both
        ({"a": "01234", "b": "5678", "c": "01234"}, [""]),
        ({"a": "012345678", "b": "01234"}, ["/a", "/b"]),
        ({"0": "012345678", "50": "abcdefghi"}, ["/0", "/50"]),  # phases: the same places
        ({"0": "01235678", "50": "abcefghi"}, ["/0", "/50"]),
    ],
)
def test_what_of_a_series_folders_hold(
    tmp_path: Path, write_dicom: WriteDicom, folders: dict[str, str], expected: list[str]
) -> None:
    """Of nine images or, in letters, of nine others at their places."""
    voxels = np.zeros((9, 8, 6), np.int16)

    def another(number: int, image: Any) -> None:
        image.SOPInstanceUID += ".9"

    made = dict(zip("012345678", write_dicom(tmp_path / "made", voxels), strict=True))
    others = write_dicom(tmp_path / "others", voxels, change=another)
    made |= dict(zip("abcdefghi", others, strict=True))
    for name, images in folders.items():
        (tmp_path / "in" / "s" / name).mkdir(parents=True)
        for image in images:
            shutil.copy(made[image], tmp_path / "in" / "s" / name)
    assert names(find_cases(tmp_path / "in")) == [f"s{name}" for name in expected]


def test_links(ct: sitk.Image, tmp_path: Path, write_dicom: WriteDicom) -> None:
    """Folders that are links are searched, each once, whatever circles they make."""
    put(ct, tmp_path / "archive" / "b.nrrd")
    write_dicom(tmp_path / "archive" / "s", np.zeros((4, 8, 6), np.int16))
    put(ct, tmp_path / "scans" / "a.nrrd")
    (tmp_path / "scans" / "p1").symlink_to(tmp_path / "archive")
    (tmp_path / "scans" / "p2").symlink_to(tmp_path / "archive")
    (tmp_path / "archive" / "up").symlink_to(tmp_path / "scans")
    cases = find_cases(tmp_path / "scans")
    assert names(cases) == ["a", "p1/b", "p1/s"]
    assert (
        len(load_volume(cases[2].path, ReadingOptions(series_uid=cases[2].series_uid)).slices) == 4
    )


def test_scans_of_git_annex_are_taken_once(
    ct: sitk.Image, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    """Its files are links into a hidden folder."""
    kept = tmp_path / "scans" / ".git" / "annex"
    put(ct, kept / "key.nrrd")
    (tmp_path / "scans" / "a.nrrd").symlink_to(kept / "key.nrrd")
    (tmp_path / "scans" / "p").mkdir()
    for file in write_dicom(kept / "s", np.zeros((4, 8, 6), np.int16)):
        (tmp_path / "scans" / "p" / file.name).symlink_to(file)
    cases = find_cases(tmp_path / "scans")
    assert names(cases) == ["a", "p"]
    assert len(load_volume(tmp_path / "scans").slices) == 4


def test_a_folder_without_ct_is_a_case_that_can_fail(
    tmp_path: Path, write_dicom: WriteDicom
) -> None:
    pet = "1.2.840.10008.5.1.4.1.1.128"
    voxels = np.zeros((4, 8, 6), np.int16)
    write_dicom(tmp_path / "pet", voxels, Modality="PT", SOPClassUID=pet)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "0.dcm").write_bytes(b"\0" * 200)
    assert names(find_cases(tmp_path)) == ["cut", "pet"]


def test_a_file_that_cannot_be_read_is_a_case_that_can_fail(
    ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ct, tmp_path / "ct.nrrd")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "0001").touch()
    unlocked = Path.open

    def locked(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.parent.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return unlocked(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", locked)
    cases = find_cases(tmp_path)
    assert [(case.name, case.extent) for case in cases] == [("ct", EXTENT), ("locked", None)]


def test_a_folder_that_cannot_be_read_is_a_case_that_can_fail(
    ct: sitk.Image, tmp_path: Path, lock: Callable[..., None]
) -> None:
    put(ct, tmp_path / "a" / "ct.nrrd")
    lock(tmp_path / "b")
    assert names(find_cases(tmp_path)) == ["a/ct", "b"]


def test_links_to_files_that_are_not_there_are_cases_that_fail(
    ct: sitk.Image, tmp_path: Path, write_dicom: WriteDicom
) -> None:
    """An image, and folders of DICOM of which some or all files are not fetched."""
    put(ct, tmp_path / "a" / "ct.nrrd")
    (tmp_path / "a" / "gone.nrrd").symlink_to("nowhere")
    write_dicom(tmp_path / "some", np.zeros((4, 8, 6), np.int16))[-1].unlink()
    (tmp_path / "none").mkdir()
    for folder in ("none", "some"):
        (tmp_path / folder / "1.dcm").symlink_to("nowhere")
    image, *others = find_cases(tmp_path)
    assert names([image, *others]) == ["a/ct", "a/gone", "none", "some"]
    load_volume(image.path)
    for case in others:
        with pytest.raises(InputError, match=r"does not exist|is not there: fetch"):
            load_volume(case.path)


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
@pytest.mark.parametrize(
    "damage", [{"Rows": None}, {"Columns": None}, {"ImagePositionPatient": ["nan", "0", "0"]}]
)
def test_headers_that_do_not_tell(
    tmp_path: Path, write_dicom: WriteDicom, damage: dict[str, Any]
) -> None:
    write_dicom(tmp_path / "ct", np.zeros((4, 8, 6), np.int16), **damage)
    (case,) = find_cases(tmp_path)
    assert case.extent is None


def test_a_table(ct: sitk.Image, tmp_path: Path, write_dicom: WriteDicom) -> None:
    put(ct, tmp_path / "a" / "ct.nrrd", tmp_path / "a" / "lung.nrrd")
    write_dicom(tmp_path / "b" / "CT", np.zeros((5, 12, 10), np.int16))
    table = tmp_path / "cases.csv"
    absolute = tmp_path / "b" / "CT"
    table.write_text(
        "path,mask,series_uid,subject,stem,thickness\n"
        f"a/ct.nrrd,a/lung.nrrd,,s1,x,\n{absolute},,1.2.3,s2,y,5\nmissing.nrrd,,,s3,\n",
        encoding="utf-8-sig",
    )
    cases = find_cases(table)
    assert names(cases) == ["a/ct", "b/CT", "missing"]
    assert cases[0].mask == tmp_path / "a" / "lung.nrrd"
    assert cases[1].series_uid == "1.2.3"
    request = Request(tmp_path / "out", (1.25,), Options(thickness=3.0))
    assert [request.case_options(case).thickness for case in cases] == [3.0, 5.0, 3.0]
    assert [case.extent for case in cases] == [EXTENT, EXTENT, None]
    named = find_cases(table, "{subject}/{number:03d}{stem}{series}")
    assert names(named) == ["s1/001x", "s2/002y1.2.3", "s3/003"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"file,name\nct.nrrd,x\n", "needs a column 'path'"),
        (b"path,name\n,x\n", "line 2"),
        (b"path,mask\n\n\na.nrrd,\n ,b.nrrd\n", "names no path in line 5"),
        (b"path,mask\n,\n , \n", "holds no scans"),
        (b"path\na.nrrd,,\nb.nrrd,mask.nrrd\n", "line 3 of .* has more cells than there are col"),
        (b"path\n", "holds no scans"),
        (b"path,thickness\na.nrrd,\nb.nrrd,1 mm\n", "line 3 of .* has the thickness '1 mm'"),
        (b"path,mask,Mask\na.nrrd,,\n", "columns of different names"),
        (b"path,thickness\na.nrrd,inf\n", "'inf'; give a number of mm"),
        (b"path\n\xff\xfe\n", "UTF-8"),
        (b"path\na\0b.nrrd\n", "without NUL characters"),
        (b'path,note\na.nrrd,"12 inches\nb.nrrd,\n', "from line 2 on.; close all quotes"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: bytes, told: str) -> None:
    table = tmp_path / "cases.csv"
    table.write_bytes(content)
    with pytest.raises(InputError, match=told):
        find_cases(table)


def test_capitals_and_spaces_of_a_table_hide_no_column(ct: sitk.Image, tmp_path: Path) -> None:
    put(ct, tmp_path / "ct.nrrd")
    table = tmp_path / "cases.csv"
    table.write_text("Path, Mask ,THICKNESS, Subject\r\nct.nrrd , lung.nrrd, 5,  s1\r\n")
    (case,) = find_cases(table, "{Subject}")
    assert (case.path, case.mask) == (tmp_path / "ct.nrrd", tmp_path / "lung.nrrd")
    assert (case.thickness, case.name) == (5.0, "s1")


def test_columns_and_rows_of_nothing_are_left_out(ct: sitk.Image, tmp_path: Path) -> None:
    put(ct, tmp_path / "ct.nrrd")
    table = tmp_path / "cases.csv"
    table.write_text("path,mask,,\r\n,,,\r\nct.nrrd,,,\r\n\r\n, ,,\r\n")
    assert names(find_cases(table)) == ["ct"]


def test_pipes_are_not_read(ct_path: Path) -> None:
    os.mkfifo(ct_path.parent / "pipe.nrrd")
    assert [case.path for case in find_cases(ct_path.parent)] == [ct_path]
    os.mkfifo(ct_path.parent / "pipe.csv")
    with pytest.raises(InputError, match="is not a file; give a CSV"):
        find_cases(ct_path.parent / "pipe.csv")


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no scans"):
        find_cases(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        find_cases(tmp_path / "none.csv")


def test_outputs_in_the_folder_of_the_scans(ct_path: Path) -> None:
    with pytest.raises(UsageError, match="name another folder"):
        find_cases(ct_path.parent, out=ct_path.parent / ".." / ct_path.parent.name)


@pytest.mark.parametrize(
    "template",
    ["{subject}", "{", "{number:q}", "/{stem}", "../{stem}", "", "{stem[x]}", "{folder}-{stem}"],
)
def test_templates_that_cannot_be(ct_path: Path, template: str) -> None:
    with pytest.raises(UsageError, match="template"):
        find_cases(ct_path.parent, template)


def test_outputs_that_would_meet(ct: sitk.Image, tmp_path: Path) -> None:
    put(ct, tmp_path / "a" / "ct.nrrd", tmp_path / "b" / "ct.nrrd")
    request = Request(tmp_path / "out", (1.25,))
    request.check_names(find_cases(tmp_path))
    with pytest.raises(UsageError, match="--name"):
        request.check_names(find_cases(tmp_path, "{stem}"))


def test_a_series_within_the_series_of_another_case(ct_path: Path, tmp_path: Path) -> None:
    """It would be lost when the folder of the other one is replaced."""
    cases = [Case(ct_path, name=name) for name in ("b", "b/CT", "c/b")]
    Request(tmp_path / "out", (1.25,)).check_names(cases)
    with pytest.raises(UsageError, match=r"out/b, the series of .*; keep them apart by --name"):
        Request(tmp_path / "out", (1.25,), file_format="dicom").check_names(cases)


def test_outputs_in_place_of_inputs(ct: sitk.Image, tmp_path: Path) -> None:
    put(ct, tmp_path / "ct.mhd", tmp_path / "deep" / "mask.nrrd")
    cases = [Case(tmp_path / "ct.mhd", mask=tmp_path / "deep" / "mask.nrrd", name="x/y")]

    def check(name: str, file_format: str | None = None) -> None:
        Request(tmp_path, (1.25,), file_format=file_format).check_names(
            [*cases, replace(cases[0], name=name)]
        )

    check("deep/ct")
    check("deep", file_format="nrrd")
    for name, file_format in (("ct", "mhd"), ("deep/mask", "nrrd"), ("deep", "dicom")):
        with pytest.raises(UsageError, match="is an input or holds one"):
            check(name, file_format=file_format)


def test_files_of_a_case(tmp_path: Path) -> None:
    case = Case(tmp_path / "ct.nii.gz", mask=tmp_path / "mask.nii.gz", name="s/ct")
    request = Request(tmp_path, (1.0,), file_format="mha", preview=True, statistics=True)
    found = [path.relative_to(tmp_path).as_posix() for path in request.outputs(case).files()]
    assert found == [
        "s/ct.mha",
        "s/ct.mask.mha",
        "s/ct.png",
        "s/ct.statistics.json",
        "s/ct.mha.json",
    ]
    folder = Request(tmp_path, (1.0,), file_format="dicom").outputs(case)
    assert folder.dicom
    assert folder.image == tmp_path / "s" / "ct"
    assert folder.segmentation_out == tmp_path / "s" / "ct.mask.nrrd"


def test_a_table_of_images_needs_no_pydicom(
    ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for name in [name for name in sys.modules if name.startswith("pmtool.dicom.")]:
        monkeypatch.delitem(sys.modules, name)
    path = tmp_path / "ct.nrrd"
    put(ct, path)
    assert extent_of(path) == EXTENT
