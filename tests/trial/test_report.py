"""`pmtool trial` prepare, report and simulate, through the real command."""

from __future__ import annotations

import csv
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from pmtool.cli.console import run_command
from pmtool.images.hounsfield import padding
from pmtool.main import cli
from pmtool.models.bundle import Bundle
from pmtool.phantom.chest import chest_phantom
from pmtool.trial.commands import power_text
from pmtool.trial.database import Database
from pmtool.trial.folder import Trial, load_secrets
from pmtool.trial.report import Report
from pmtool.trial.results import Answer, Results
from pmtool.trial.simulation import simulate_answers

pytest.importorskip("jinja2")
pytest.importorskip("scipy")


def run(*arguments: object) -> int:
    return run_command(cli, [str(argument) for argument in arguments])


def told_json(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


class TestPrepare:
    @pytest.fixture
    def scans(self, tmp_path: Path) -> list[Path]:
        """Two scans of 17 and 15 slices, 15 of which can be dropped; the second is upside down."""
        paths = [tmp_path / "a.nrrd", tmp_path / "b.nrrd"]
        for path, slices in zip(paths, (17, 15), strict=True):
            image = chest_phantom(size=32, slices=slices, spacing=(11.2, 11.2, 1.25), seed=slices)
            sitk.WriteImage(sitk.Flip(image, [False, slices == 15, False]), str(path))
        return paths

    @pytest.fixture
    def averages(self, fake_sampler: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        """PixelMiner makes averages."""
        monkeypatch.setattr("pmtool.evaluation.method_options.Sampler", fake_sampler)
        monkeypatch.setattr(fake_sampler, "bundle", Bundle.load(None), False)
        return fake_sampler

    def test_real_model(self, scans: list[Path], tmp_path: Path) -> None:
        arguments = ("trial", "prepare", *scans, "--slices", 12, "--participants", 3, "-q")
        assert run(*arguments, "--out", tmp_path / "one") == 0
        assert run(*arguments, "--out", tmp_path / "two", "--cache", tmp_path / "one/cache") == 0
        one, two = (Trial.load(tmp_path / name) for name in ("one", "two"))
        assert one.plans == two.plans
        assert [x.scan for x in one.slices] == ["a.nrrd"] * 6 + ["b.nrrd"] * 6
        volumes = {p.name: sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in scans}
        volumes["b.nrrd"] = volumes["b.nrrd"][:, ::-1]
        for plan in one.plans:
            for item in plan:
                shown = one.images(item)
                assert np.array_equal(shown, two.images(item))
                scan, number = one.slices[item.slice]
                values = volumes[scan].clip(-1024, 3071).astype(np.float64)
                outside = padding(volumes[scan][number], -1024)
                assert (shown[:, outside] == -1024).all()
                values[:, outside] = -1024
                assert shown.dtype == np.int16
                assert np.array_equal(shown[0], values[number])
                left, right = shown[1:]
                other, mined = (right, left) if item.side == "left" else (left, right)
                if item.other == "linear":
                    mean = (values[number - 1] + values[number + 1]) / 2
                    assert np.abs(other - mean).max() <= 0.5
                if item.other == "nearest":
                    assert any(np.array_equal(other, values[number + i]) for i in (-1, 1))
                assert not np.array_equal(other, mined)
        secrets = [load_secrets(tmp_path / name) for name in ("one", "two")]
        assert len({*secrets[0], *secrets[1]}) == 4
        assert stat.S_IMODE((tmp_path / "one" / "secrets.json").stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        ("code", "arguments"),
        [
            (2, ("--slices", 11)),
            (2, ("--methods", "cubic")),
            (2, ("--external", "linear=a.nrrd")),
            (3, ("missing.nrrd",)),
        ],
    )
    @pytest.mark.usefixtures("averages")
    def test_what_cannot_be_prepared(
        self, scans: list[Path], tmp_path: Path, code: int, arguments: Sequence[object]
    ) -> None:
        folder = tmp_path / "trial"
        assert run("trial", "prepare", *scans, "--out", folder, *arguments) == code
        assert not folder.exists()

    @pytest.mark.usefixtures("averages")
    def test_device_and_engine_are_told(
        self, scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ("trial", "prepare", *scans, "--out", tmp_path / "trial")
        assert run(*arguments) == 0
        assert "on cpu (averages, float32).\n" in capsys.readouterr().err
        methods = Trial.load(tmp_path / "trial").provenance["methods"]
        assert {x["name"]: x.get("device") for x in methods}["pixelminer"] == "cpu"

    @pytest.mark.usefixtures("averages")
    def test_slices_that_are_not_in_hu(self, scans: list[Path], tmp_path: Path) -> None:
        path, folder = tmp_path / "other.nrrd", tmp_path / "trial"
        image = sitk.Cast(sitk.ReadImage(str(scans[0])), sitk.sitkFloat32)
        sitk.WriteImage(image / 4096 + 0.25, str(path))
        others = [f"--external=other={x}" for x in (path, scans[1])]
        arguments = ("trial", "prepare", *scans, "--out", folder, "-q", *others)
        assert run(*arguments) == 5
        assert run(*arguments, "--assume-hu") == 0

    @pytest.mark.usefixtures("averages")
    def test_a_trial_is_never_overwritten(self, scans: list[Path], tmp_path: Path) -> None:
        folder = tmp_path / "trial"
        arguments = ("trial", "prepare", *scans, "-q", "--out", folder)
        assert run(*arguments) == 0
        before = (folder / "trial.json").read_bytes()
        assert run(*arguments) == 6
        assert (folder / "trial.json").read_bytes() == before
        assert run("trial", "prepare", *scans, "--out", tmp_path) == 6

    @pytest.mark.usefixtures("averages")
    def test_an_interrupted_preparation_goes_on(self, scans: list[Path], tmp_path: Path) -> None:
        folder = tmp_path / "trial"
        arguments = ("trial", "prepare", *scans, "-q", "--out", folder)
        assert run(*arguments) == 0
        image = folder / "images" / "0000-linear.npy"
        for file in (folder / "trial.json", image):  # as a kill leaves them
            file.rename(file.with_name(f".{file.name}.1@a.tmp"))
        assert run("trial", "report", folder) == 3
        assert run(*arguments) == 0
        assert image.exists()
        assert not list(folder.rglob(".*"))


def answer_all(trial: Trial, answers: Sequence[Answer]) -> None:
    """Store what was simulated as if people had answered."""
    database = Database(trial.database)
    for number in sorted({answer.participant for answer in answers}):
        assert database.enrol("Radiology" if number % 2 else "Student", number).id == number
    for x in answers:
        database.answer(x.participant, x.item - 1, x.chosen, x.milliseconds)
    database.close()


@pytest.mark.parametrize("command", ["prepare --out out", "serve", "report", "simulate"])
def test_a_missing_extra_is_named(
    command: str,
    trial_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pmtool.system.extras.find_spec", lambda name: None)
    assert run("trial", *command.split(), trial_folder) == 2
    assert "pip install 'pmtool[" in capsys.readouterr().err


class TestReport:
    def test_counts_are_those_of_the_answers(
        self, trial_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        trial = Trial.load(trial_folder)
        preferences = {"linear": 0.95, "nearest": 0.2, "bspline": 0.7, "windowed_sinc": 0.5}
        answers = simulate_answers(trial, preferences, 10, 3)
        answer_all(trial, answers)
        assert run("trial", "report", trial_folder) == 0
        told = told_json(trial_folder / "report")
        assert told["overall"]["won"] == sum(x.chosen == x.pixelminer for x in answers)
        assert told["overall"]["answers"] == 120
        for method in preferences:
            mine = [x.chosen == x.pixelminer for x in answers if x.other == method]
            assert (told["against"][method]["won"], len(mine)) == (sum(mine), 30)
        assert sum(x["answers"] for x in told["by_speciality"].values()) == 120
        assert list(told["by_speciality"]) == ["Radiology", "Student"]
        assert told["finished"] == 10
        assert told["paper"]["overall_percent"] == "72"
        assert told["seconds"]["all"]["median"] == pytest.approx(
            np.median([x.milliseconds for x in answers]) / 1000
        )
        with (trial_folder / "report" / "answers.csv").open() as file:
            rows = list(csv.DictReader(file))
        kept = ("item", "scan", "slice", "other", "pixelminer", "chosen")
        assert [[r[k] for k in kept] for r in rows] == [
            [str(getattr(x, k)) for k in kept] for x in answers
        ]
        assert capsys.readouterr().out.startswith("PixelMiner was chosen in")
        page = (trial_folder / "report" / "report.html").read_text()
        assert "96.3 %" in page
        assert "src=" not in page
        assert "href=" not in page

    def test_before_the_first_answer(
        self, trial_folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run("trial", "report", trial_folder) == 0
        assert "no answers yet" in capsys.readouterr().out
        assert "Wilcoxon" not in (trial_folder / "report" / "report.html").read_text()
        assert told_json(trial_folder / "report")["overall"]["share"] is None

    def test_a_folder_that_cannot_be_written_to(self, trial_folder: Path, tmp_path: Path) -> None:
        """Nothing is made in it, before the first answer or after it."""
        arguments = ("trial", "report", trial_folder, "--out", tmp_path / "report")
        before = sorted(trial_folder.rglob("*"))
        assert run(*arguments) == 0
        assert sorted(trial_folder.rglob("*")) == before
        trial = Trial.load(trial_folder)
        answer_all(trial, simulate_answers(trial, dict.fromkeys(trial.methods, 0.7), 2, 1))
        trial.database.chmod(0o400)
        trial.database.with_name("answers.sqlite-shm").mkdir()  # stops an administrator too
        trial_folder.chmod(0o500)
        try:
            assert run(*arguments) == 0
        finally:
            trial_folder.chmod(0o700)
        assert told_json(tmp_path / "report")["overall"]["answers"] == 24

    def test_answers_that_are_still_in_the_journal(self, trial_folder: Path) -> None:
        database = Database(Trial.load(trial_folder).database)
        database.answer(database.enrol("Student", 1).id, 0, "left", 1500)
        assert run("trial", "report", trial_folder) == 0
        database.close()
        assert told_json(trial_folder / "report")["overall"]["answers"] == 1

    def test_a_fair_coin_is_no_finding_and_72_percent_is(self, trial_folder: Path) -> None:
        """Of 200 trials of 16 coins at most 5 % and chance; of the others nearly all."""
        trial = Trial.load(trial_folder)
        for preference, low, high in ((0.5, 0, 18), (0.72, 198, 200)):
            found = 0
            for seed in range(200):
                each = dict.fromkeys(trial.methods, preference)
                answers = simulate_answers(trial, each, 16, seed)
                report = Report(Results(answers, trial.methods), 0, {})
                found += "PixelMiner is preferred" in report.verdict
                found += "others are preferred" in report.verdict
            assert low <= found <= high

    def test_answers_of_a_participant_can_depend_on_each_other(self, trial_folder: Path) -> None:
        """With a correlation of r, the variance of the wins is 1 + (n - 1) r times as large."""
        trial = Trial.load(trial_folder)
        each = dict.fromkeys(trial.methods, 0.7)
        for correlation in (0.0, 0.4):
            answers = simulate_answers(trial, each, 3000, 1, correlation)
            wins = [x.won for x in Results(answers, trial.methods).by_participant.values()]
            expected = 12 * 0.7 * 0.3 * (1 + 11 * correlation)
            assert np.var(wins) == pytest.approx(expected, rel=0.1)
            assert np.mean(wins) == pytest.approx(12 * 0.7, rel=0.02)

    def test_simulate(
        self, trial_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "simulated"
        for preference, verdict in ((0.5, "no preference"), (0.72, "PixelMiner is preferred")):
            arguments = ("--preference", preference, "--seed", 1, "--out", out)
            assert run("trial", "simulate", trial_folder, *arguments) == 0
            assert verdict in told_json(out)["verdict"]
            assert "SIMULATED" in (out / "report.html").read_text()
        told = capsys.readouterr().out
        assert "it takes more than 500 participants" in told
        assert "it takes 5 participants of 12 answers, or 17 participants" in told
        assert not Trial.load(trial_folder).database.exists()

    def test_what_is_asked_for_is_told_unrounded(self) -> None:
        told = power_text(0.505, 0.999, 0.0, 1, 0)
        assert told.startswith("To see 50.5% with a power of 99.9% ")
        assert "\n1 participant: exact power" in told

    def test_folders_of_other_things_are_left_alone(
        self, trial_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mine = tmp_path / "mine"
        mine.mkdir()
        for name in ("report.html", "letter.txt"):
            (mine / name).write_text("precious")
            assert run("trial", "report", trial_folder, "--out", mine) == 6
            assert [path.read_text() for path in mine.iterdir()] == ["precious"]
            (mine / name).unlink()
        assert run("trial", "report", trial_folder, "--out", mine) == 0
        before = (mine / "report.json").read_bytes()
        assert run("trial", "simulate", trial_folder, "--out", mine) == 6
        assert "holds a report on people's answers" in capsys.readouterr().err
        assert (mine / "report.json").read_bytes() == before
        assert run("trial", "report", trial_folder, "--out", mine) == 0

    def test_what_cannot_be_simulated(self, trial_folder: Path) -> None:
        assert run("trial", "simulate", trial_folder) == 2
        assert run("trial", "simulate", "--preference", 1) == 2
        assert run("trial", "report", trial_folder / "images") == 3
        (trial_folder / "answers.sqlite").write_text("no database " * 100)
        assert run("trial", "report", trial_folder) == 3
        (trial_folder / "trial.json").write_text("[]")
        assert run("trial", "report", trial_folder) == 3
