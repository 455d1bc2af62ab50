"""A DICOM series as the output of a command: named, written whole, replaced with care."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from pydicom import Dataset, dcmread

import pmtool
from pmtool.cli.console import INTERRUPTED, run_command
from pmtool.dicom import folder
from pmtool.errors import OutputError
from pmtool.main import cli

pytestmark = pytest.mark.usefixtures("fake_sampler")


def run(*arguments: object) -> int:
    return run_command(cli, ["resample", "--spacing", "1.25", *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What the last command said went wrong: its last line."""
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def source(ct: sitk.Image, tmp_path: Path, write_dicom: Callable[..., list[Path]]) -> Path:
    """A folder of five slices."""
    write_dicom(tmp_path / "in", sitk.GetArrayFromImage(ct))
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


NAMES = [f"{number:04d}.dcm" for number in range(1, 10)]


@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--resume",)])
def test_no_other_output_lies_in_it(
    more: tuple[str, ...], source: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is replaced as a whole, and what else is there would be lost."""
    out.mkdir()
    assert run(source, f"{out}/", "--statistics", out / "statistics.json", *more) == 6
    assert "would lie in the folder of the DICOM series" in told(capsys)
    assert contents(out) == {}


def test_a_link_to_itself_is_no_folder(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out.symlink_to(out)
    assert run(source, f"{out}/", "--statistics", out.parent / "statistics.json") == 6
    assert "cannot be written" in told(capsys)


@pytest.mark.parametrize("arguments", [("OUT/",), ("-o", "OUT/"), ("--format", "dicom", "OUT")])
def test_ways_to_ask_for_it(arguments: tuple[str, ...], source: Path, out: Path) -> None:
    assert run(source, *(a.replace("OUT", str(out)) for a in arguments)) == 0
    assert sorted(contents(out)) == NAMES
    assert {path.name for path in out.parent.iterdir()} == {"in", "out", "out.json"}
    assert json.loads((out.parent / "out.json").read_text())["slices"][1]["pair"] == [0, 1]
    assert out.stat().st_mode & 0o777 == source.stat().st_mode & 0o777


def test_an_empty_folder_is_filled(source: Path, out: Path) -> None:
    out.mkdir()
    assert run(source, out) == 0
    assert sorted(contents(out)) == NAMES


def test_a_name_alone_is_no_format(source: Path, out: Path) -> None:
    assert run(source, out) == 2
    assert run("--format", "dicom", source, f"{out}.nrrd") == 2
    assert run("--format", "nrrd", source, f"{out}/") == 2
    assert list(out.parent.iterdir()) == [source]


def test_other_files_go_with_it(ct: sitk.Image, source: Path, out: Path) -> None:
    mask = out.parent / "mask.nrrd"
    sitk.WriteImage(sitk.Cast(ct > 0, sitk.sitkUInt8), str(mask))
    thin = out.parent / "thin.nrrd"
    arguments = ("--seg", mask, "--seg-out", thin, "--preview", out.parent / "look.png")
    assert run(*arguments, source, f"{out}/") == 0
    names = {"in", "mask.nrrd", "thin.nrrd", "look.png", "out", "out.json"}
    assert {path.name for path in out.parent.iterdir()} == names
    assert sitk.ReadImage(str(thin)).GetSize()[2] == len(NAMES)


def test_input_that_is_not_dicom(
    ct_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ct_path, f"{out}/") == 2
    assert "is not DICOM and has no patient and study" in told(capsys)
    assert not out.exists()
    out.mkdir()
    assert run(ct_path, out) == 2
    assert list(out.iterdir()) == []


def test_without_pydicom(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pmtool.system.extras.find_spec", lambda name: None)
    assert run(source, f"{out}/") == 2
    assert told(capsys) == "pmtool: DICOM needs pydicom: pip install 'pmtool[dicom]'"


class TestOverwriting:
    def test_only_when_asked(self, source: Path, out: Path) -> None:
        assert run(source, f"{out}/") == 0
        before = contents(out)
        assert run("--seed", 1, source, f"{out}/") == 6
        assert contents(out) == before
        (out / NAMES[8]).unlink()
        assert run("--seed", 1, source, f"{out}/", "--overwrite") == 0
        assert sorted(contents(out)) == NAMES
        assert contents(out)[NAMES[0]] != before[NAMES[0]]
        assert {path.name for path in out.parent.iterdir()} == {"in", "out", "out.json"}

    @pytest.mark.parametrize("other", ["notes.txt", "acquired", "folder", "series"])
    def test_never_what_others_wrote(
        self, other: str, source: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(source, f"{out}/") == 0
        if other == "notes.txt":
            (out / other).write_text("do not lose me")
        elif other == "acquired":
            shutil.copy(next(source.iterdir()), out / "acquired.dcm")
        elif other == "folder":
            (out / "folder").mkdir()
        else:
            assert run("--seed", 1, source, f"{out.parent / 'more'}/") == 0
            shutil.copy(out.parent / "more" / NAMES[0], out / "more.dcm")
        names = sorted(path.name for path in out.iterdir())
        assert run(source, f"{out}/", "--overwrite") == 6
        assert "holds other files than one series written by pmtool" in told(capsys)
        assert sorted(path.name for path in out.iterdir()) == names

    def test_never_the_input(self, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = contents(source)
        assert run(source, f"{source}/", "--overwrite") == 6
        assert run(source, source, "--overwrite") == 6
        assert contents(source) == before
        assert list(source.parent.iterdir()) == [source]
        assert run(source, f"{source.parent / 'a'}/") == 0
        assert run(source.parent / "a" / NAMES[0], f"{source.parent / 'a'}/", "--overwrite") == 6
        assert "is an input" in told(capsys)

    def test_no_file_of_the_input(self, source: Path, out: Path, capsys: Any) -> None:
        before = contents(source)
        slice_ = next(source.iterdir())
        assert run(source, f"{out}.nrrd", "--statistics", slice_, "--overwrite") == 6
        assert "is a file of the input" in told(capsys)
        assert contents(source) == before

    def test_not_within_the_input(self, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It would be a second series there, so that the run could not be resumed."""
        assert run(source, f"{source}/thin/") == 6
        assert "would then hold two series; name a folder outside" in told(capsys)
        assert not (source / "thin").exists()
        uid = dcmread(next(source.iterdir())).SeriesInstanceUID
        assert run(source, f"{source}/thin/", "--series-uid", uid) == 0
        assert run(source, f"{source}/thin/", "--series-uid", uid, "--resume") == 0

    def test_a_folder_within_is_no_slice(
        self, source: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(source, f"{out}/") == 0
        (out / "notes").mkdir()
        for more in ("--resume", "--overwrite"):
            assert run(source, f"{out}/", more) == 6
            assert "holds other files than one series written by pmtool" in told(capsys)

    def test_another_patient_is_another_series(self, source: Path, out: Path) -> None:
        """Of the same voxels, as after a pseudonymisation."""
        assert run(source, f"{out}/") == 0
        before = dcmread(out / "0001.dcm")
        for file in source.iterdir():
            dataset = dcmread(file)
            dataset.PatientID = "P-17"
            dataset.save_as(file)
        assert run(source, f"{out}/", "--resume") == 6
        assert run(source, f"{out}/", "--overwrite") == 0
        after = dcmread(out / "0001.dcm")
        assert (before.PatientID, after.PatientID) == ("Doe", "P-17")
        assert before.SeriesInstanceUID != after.SeriesInstanceUID

    def test_a_file_stays(self, source: Path, out: Path) -> None:
        out.write_text("a file")
        assert run(source, f"{out}/", "--overwrite") == 6
        assert out.read_text() == "a file"

    def test_a_link_stays(self, source: Path, out: Path) -> None:
        out.symlink_to(source)
        assert run(source, f"{out}/", "--overwrite") == 6
        assert out.is_symlink()
        assert len(list(source.iterdir())) == 5

    def test_places_that_no_folder_can_be_moved_to(
        self, source: Path, out: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out.symlink_to(out.parent / "nowhere")
        assert run(source, f"{out}/") == 6
        assert "is a file or a link" in told(capsys)
        out.unlink()
        out.mkdir()
        monkeypatch.setattr("os.path.ismount", lambda path: path == out)
        assert run(source, f"{out}/") == 6
        assert "is where a disk is mounted; name a folder in it" in told(capsys)


class TestFaults:
    def test_interruption_and_resumption(
        self, source: Path, out: Path, fake_sampler: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(source, f"{out.parent / 'whole'}/") == 0
        fake_sampler.calls.clear()
        fake_sampler.interrupt_after = 2
        assert run(source, f"{out}/") == INTERRUPTED
        assert not out.exists()
        fake_sampler.interrupt_after = None
        assert run(source, f"{out}/") == 2
        assert run(source, f"{out}/", "--resume") == 0
        assert len(fake_sampler.calls) == 4
        assert contents(out) == contents(out.parent / "whole")
        image = pmtool.resample(source, 1.25, f"{out}/", resume=True)  # complete: read back
        assert len(fake_sampler.calls) == 4
        assert image.GetSize() == (10, 12, 9)

    def test_stopped_between_folder_and_sidecar(
        self, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:

            def stop(*_: object) -> None:
                raise KeyboardInterrupt

            patch.setattr("pmtool.resampling.resample.write_json", stop)
            assert run(source, f"{out}/") == INTERRUPTED
        before = contents(out)
        assert run(source, f"{out}/", "--resume") == 0
        assert contents(out) == before
        assert {path.name for path in out.parent.iterdir()} == {"in", "out", "out.json"}

    @pytest.mark.parametrize("existing", [False, True])
    def test_full_disk(
        self,
        existing: bool,
        source: Path,
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The third file cannot be written; nothing appears and nothing is lost."""
        if existing:
            assert run(source, f"{out}/") == 0
        before = contents(out) if existing else None
        write = folder._write

        def full(dataset: Dataset, path: Path) -> None:
            if path.name == NAMES[2]:
                raise OSError(28, "No space left on device")
            write(dataset, path)

        monkeypatch.setattr(folder, "_write", full)
        assert run(source, f"{out}/", "--overwrite", "--seed", 3) == OutputError.exit_code
        assert told(capsys) == f"pmtool: {out} cannot be written: No space left on device"
        assert (contents(out) if existing else None) == before
        assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]

    def test_the_former_series_stays_if_the_new_one_cannot_be_moved(
        self, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert run(source, f"{out}/") == 0
        before, replace = contents(out), Path.replace

        def fail(self: Path, target: Path) -> Path:
            if target == out and self.name == "made":
                raise OSError(5, "Input/output error")
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fail)
            assert run(source, f"{out}/", "--overwrite", "--seed", 3) == 6
        assert contents(out) == before


def test_more_than_9999_slices_sort_by_name(tmp_path: Path, monkeypatch: Any) -> None:
    written: list[str] = []
    monkeypatch.setattr(folder, "_write", lambda dataset, path: written.append(path.name))
    folder.write_series(range(10001), tmp_path / "out")  # type: ignore[arg-type]
    assert written == sorted(written)
    assert written[0] == "00001.dcm"


def test_files_are_what_they_say(source: Path, out: Path) -> None:
    assert run(source, f"{out}/") == 0
    for number, path in enumerate(sorted(out.iterdir()), start=1):
        found = dcmread(path)
        assert found.InstanceNumber == number
        assert found.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
        assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID
