"""The command line in process, with averages in place of a network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.cli.console import INTERRUPTED, run_command
from pmtool.main import cli
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.plan import Plan
from pmtool.training.settings import PRESETS

ROOT = Path(__file__).parents[1]


def run(*arguments: object) -> int:
    return run_command(cli, [str(argument) for argument in arguments])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.nrrd"


@pytest.mark.usefixtures("fake_sampler")
class TestResample:
    def test_in_and_out(self, ct_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("resample", "--spacing", 1.25, ct_path, out) == 0
        assert sitk.ReadImage(str(out)).GetSize() == (10, 12, 9)
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("5 slices of 10x12 at 2.5 mm become 9 at 1.25 mm")

    def test_windows_at_once_are_those_of_all_workers(
        self,
        ct_path: Path,
        out: Path,
        capsys: pytest.CaptureFixture[str],
        fake_sampler: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        plan = Plan((64, 64), (64, 64), 8, workers=2, threads=2, memory=2**20, seconds_per_slice=1)
        monkeypatch.setattr(fake_sampler, "plan", lambda *_: plan)
        assert run("resample", "--spacing", 1.25, ct_path, out) == 0
        assert "windows of 64x64, 16 at once; about 1 MiB of memory" in capsys.readouterr().err

    def test_three_spacings_and_quiet(
        self, ct_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = (0, 1.25, "-q", "-i", ct_path, "-o", out)
        assert run("resample", "--spacing", 0, *arguments) == 0
        assert run("resample", "--spacing=0", *arguments, "--overwrite") == 0
        assert capsys.readouterr() == ("", "")

    def test_folders_that_are_called_by_numbers(
        self, ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_dicom: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_dicom(Path("7"), sitk.GetArrayFromImage(ct))
        assert run("resample", "--spacing", 1.25, "7", "8", "--format", "nrrd") == 0
        assert Path("8.nrrd").exists()
        assert run("resample", "--spacing", 0, 0, 1.25) == 2

    @pytest.mark.parametrize("arguments", [("-i", "IN", "OUT"), ("IN", "-o", "OUT")])
    def test_mixed_paths(self, ct_path: Path, out: Path, arguments: tuple[str, ...]) -> None:
        places = {"IN": ct_path, "OUT": out}
        chosen = [places.get(argument, argument) for argument in arguments]
        assert run("resample", "--spacing=1.25", *chosen) == 0

    def test_format_and_memory(self, ct_path: Path, tmp_path: Path) -> None:
        arguments = ("--format", "nii.gz", "--memory", "4G", "--window", "full")
        assert run("resample", "--spacing", 1.25, *arguments, ct_path, tmp_path / "out") == 0
        assert (tmp_path / "out.nii.gz").exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interruption_and_resumption(
        self,
        ct_path: Path,
        out: Path,
        fake_sampler: Any,
        capsys: pytest.CaptureFixture[str],
        number: int,
    ) -> None:
        fake_sampler.interrupt_after = 2
        fake_sampler.signal = number
        assert run("resample", "--spacing", 1.25, ct_path, out) == INTERRUPTED
        assert "--resume" in capsys.readouterr().err
        assert not out.exists()
        fake_sampler.interrupt_after = None
        assert run("resample", "--spacing", 1.25, ct_path, out) == 2
        assert run("resample", "--spacing", 1.25, ct_path, out, "--resume") == 0
        assert len(fake_sampler.calls) == 4

    def test_overwriting(self, ct_path: Path, out: Path) -> None:
        out.touch()
        assert run("resample", "--spacing", 1.25, ct_path, out) == 6
        assert run("resample", "--spacing", 1.25, "--overwrite", ct_path, out) == 0

    def test_warnings_are_sentences(
        self, ct_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("resample", "--spacing", 2.0, "-q", ct_path, out) == 0
        told = capsys.readouterr().err
        assert told.startswith("warning: 4 of 6 slices are the nearest")
        assert told.count("\n") == 1


@pytest.mark.parametrize("arguments", [("",), ("-i", ""), ("--reference", "")])
def test_an_empty_path_is_not_the_working_folder(
    ct_path: Path, out: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    given = (*arguments, out) if "--reference" not in arguments else (ct_path, out, *arguments)
    assert run("resample", "--spacing", 1.25, *given) == 2
    assert "a path is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("1.25", "in", "out"), (1.25,)),
        (("0", "0", "1.25", "in", "out"), (0, 0, 1.25)),
        (("1.25", "2023", "2024"), (1.25,)),
        (("0", "0", "1.25", "2023", "2024"), (0, 0, 1.25)),
        (("0", "0", "1.25", "2023"), None),
    ],
)
def test_spacings_before_folders_that_are_numbers(
    given: tuple[str, ...],
    found: tuple[float, ...] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("2023").mkdir()
    command = cli.commands["cohort"]
    if found is None:
        with pytest.raises(click.MissingParameter):
            command.make_context("cohort", ["--spacing", *given])
        return
    context = command.make_context("cohort", ["--spacing", *given])
    assert context.params["spacing"] == found
    assert (str(context.params["source"]), str(context.params["folder"])) == given[-2:]


@pytest.mark.parametrize("command", ["resample", "cohort"])
def test_three_spacings_without_paths(
    command: str, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(2, "is followed by no paths", command, "--spacing", 1, 1, "1.25")


def test_unexpected_errors_are_sentences_too(
    ct_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("pmtool.resampling.preparation.load_ct", fail)
    assert run("resample", "--spacing", 1.25, ct_path, out) == 1
    assert capsys.readouterr().err == "pmtool: RuntimeError: two lines (--debug shows where)\n"
    assert run("resample", "--spacing", 1.25, ct_path, out, "--debug") == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last):")
    assert told.endswith("pmtool: RuntimeError: two lines (--debug shows where)\n")
    elsewhere = out.with_name("none") / "out.nrrd"
    assert run("resample", "--spacing", 1.25, ct_path, elsewhere, "--debug") == 6


def test_phantom(out: Path) -> None:
    arguments = ("--size", 32, "--slices", 4, "--spacing", 2.5)
    assert run("phantom", out, *arguments) == 0
    image = sitk.ReadImage(str(out))
    assert image.GetSize() == (32, 32, 4)
    assert image.GetSpacing()[2] == 2.5
    assert run("phantom", out, *arguments) == 6
    assert run("phantom", out, *arguments, "--overwrite") == 0
    assert np.array_equal(
        sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(sitk.ReadImage(str(out)))
    )


@pytest.mark.parametrize("command", [("-m", "pmtool"), ("-c", "{}")])
def test_an_interrupt_while_pmtool_is_imported(command: tuple[str, str], tmp_path: Path) -> None:
    """By the module and by the function that the installed script calls."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["pmtool"].split(":")
    code = command[1].format(f"from {module} import {function}; {function}()")
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    places = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, command[0], code],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (INTERRUPTED, b"pmtool: interrupted\n")


@pytest.mark.parametrize("name", ["out.txt", "out/"])
def test_a_phantom_is_no_dicom_series(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("phantom", f"{tmp_path}/{name}") == 2
    assert capsys.readouterr().err.endswith(
        "names no image format; end it with .nrrd, .nii, .nii.gz, .mha, .mhd\n"
    )


def commands(command: click.Command, *names: str) -> Iterator[tuple[str, click.Command]]:
    """A command and those below it, with their names."""
    yield " ".join(names), command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, *names, name)


COMMANDS = dict(commands(cli))


def test_presets_are_those_of_the_library() -> None:
    """The command line repeats them, because their module loads slowly."""
    (option,) = (x for x in COMMANDS["train"].params if x.name == "preset")
    assert isinstance(option.type, click.Choice)
    assert set(option.type.choices) == set(PRESETS)


@pytest.mark.parametrize("name", ["resample", "cohort", "evaluate", "trial prepare"])
def test_who_generates_slices_takes_the_samplers_options(name: str) -> None:
    options = {option.name for option in COMMANDS[name].params}
    wanted = {field.name for field in fields(SamplerOptions)} - {"mode"}
    assert wanted | {"model"} <= options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_alike(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*name.split(), "--help") == 0
    end = capsys.readouterr().out.partition("Exit codes: ")[2].split("\n\n")
    assert "130 interrupted" in end[0]
    assert [part.strip() for part in end[1:]] == ["Not a medical device; for research use."]


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_help_is_quick(command: str) -> None:
    code = (
        "import sys\n"
        "from pmtool.main import cli\n"
        "try: cli([sys.argv[1], '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'numpy', 'SimpleITK', 'torch', 'onnxruntime'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, command], capture_output=True, check=True)


@pytest.mark.usefixtures("ct_path")
@pytest.mark.parametrize(
    ("code", "command"),
    [
        (3, "resample --spacing 1.25 loop out.nrrd"),
        (3, "compare loop loop/b --reference loop"),
        (3, "evaluate loop --out report"),
        (3, "cohort --spacing 1.25 loop out"),
        (6, "cohort --spacing 1.25 . loop"),
        (2, "cohort --spacing 1.25 loop loop"),
    ],
)
def test_links_that_lead_to_themselves(
    code: int,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert run(*command.split()) == code
    assert "loop" in capsys.readouterr().err.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"ct.nrrd", "loop"}
