"""The report of a trial: text for a terminal, JSON, CSV, and a self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pmtool.errors import OutputError
from pmtool.evaluation.tables import label
from pmtool.system.files import json_text, read_json
from pmtool.system.outputs import check_report, make_folder, write_report_files
from pmtool.system.tables import aligned, csv_text
from pmtool.system.templates import template
from pmtool.system.versions import own_version
from pmtool.trial import paper
from pmtool.trial.database import Database
from pmtool.trial.folder import Trial
from pmtool.trial.results import Answer, Results, collect
from pmtool.trial.statistics import SIGNIFICANT, Share, Times

FILES = JSON, CSV, PAGE = "report.json", "answers.csv", "report.html"
COLUMNS = ("", "chosen", "95 % interval", "p", "p, Holm", "paper")


@dataclass(frozen=True)
class Report:
    """Results and their provenance.

    Attributes
    ----------
    results
        Results of the trial.
    undone
        Number of answers that were taken back; they count nowhere else.
    provenance
        Provenance of the trial, as plain JSON values.
    simulated
        A sentence on the simulation; None for answers of people.
    """

    results: Results
    undone: int
    provenance: dict[str, Any]
    simulated: str | None = None

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        overall = self.results.overall
        if overall.share is None:
            return "There are no answers yet."
        if overall.p >= SIGNIFICANT:
            preference = "no preference is shown"
        elif overall.share > 0.5:
            preference = "PixelMiner is preferred"
        else:
            preference = "the other methods are preferred"
        return (
            f"PixelMiner was chosen in {100 * overall.share:.1f} % of {overall.answers} answers "
            f"(95 % interval {_interval(overall)}, p {_p_value(overall.p)}): {preference}."
        )

    def comparisons(self) -> list[tuple[str, str, str, str, str, str]]:
        """Rows of text with `COLUMNS`: PixelMiner against all methods and against each."""
        results = self.results
        rows = [("all", *_cells(results.overall), "", f"{paper.OVERALL} %")]
        for method, share in results.by_method.items():
            corrected = _p_value(results.corrected[method])
            printed = f"{paper.BY_METHOD[method]} %" if method in paper.BY_METHOD else "-"
            rows.append((label(method), *_cells(share), corrected, printed))
        return rows

    def specialities(self) -> list[tuple[str, str, str, str]]:
        """Rows of text: PixelMiner's share by the participants' speciality."""
        return [(name, *_cells(share)) for name, share in self.results.by_speciality.items()]

    def times(self) -> list[tuple[str, str]]:
        """Rows of text: medians and quartiles of the response times in seconds."""
        return [(label(name), _seconds(x)) for name, x in self.results.times.items()]

    def remarks(self) -> list[str]:
        """Sentences on participants, their agreement and their habits."""
        results, agreement = self.results, self.results.agreement
        people = len(results.by_participant)
        sentences = [
            f"Participants who answered: {people}, all items: {results.finished}; answers taken "
            f"back: {self.undone}.",
        ]
        if results.overall.share is not None:
            left = results.left
            sentences += [
                "The binomial tests take answers for independent. By participants' own shares, "
                f"Wilcoxon's signed-rank test gives p {_p_value(results.participants_p)}.",
                f"The left side was chosen in {chosen(left)}, p {_p_value(left.p)}.",
            ]
        if agreement.observed is None:
            sentences.append(
                "No two participants saw the same pair: nothing is known of agreement."
            )
        else:
            kappa = "not defined" if agreement.kappa is None else f"{agreement.kappa:.2f}"
            sentences.append(
                f"Two participants who saw the same pair agree with probability "
                f"{agreement.observed:.2f}; Fleiss' kappa is {kappa} ({agreement.pairs} pairs, "
                f"{agreement.answers} answers)."
            )
        return [*sentences, paper.INCONSISTENT]

    def to_text(self) -> str:
        """Return the verdict and the tables as text."""
        return "\n\n".join(
            [
                *([self.simulated] if self.simulated else []),
                self.verdict,
                _table(COLUMNS, self.comparisons()),
                _table(COLUMNS[:4], self.specialities()),
                _table(("seconds", "median (quartiles)"), self.times()),
                *self.remarks(),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        results = self.results
        against = {
            method: {**_share_json(share), "p_holm": results.corrected[method]}
            for method, share in results.by_method.items()
        }
        return {
            "pmtool": own_version(),
            "simulated": self.simulated,
            "verdict": self.verdict,
            "overall": _share_json(results.overall),
            "against": against,
            "by_speciality": {k: _share_json(v) for k, v in results.by_speciality.items()},
            "by_participant": {k: _share_json(v) for k, v in results.by_participant.items()},
            "p_of_participants_shares": results.participants_p,
            "left_chosen": _share_json(results.left),
            "agreement": results.agreement._asdict(),
            "seconds": {k: v and v._asdict() for k, v in results.times.items()},
            "finished": results.finished,
            "undone": self.undone,
            "paper": {
                "overall_percent": paper.OVERALL,
                "against_percent": paper.BY_METHOD,
                "answers": paper.ANSWERS,
                "participants": paper.PARTICIPANTS,
                "note": paper.INCONSISTENT,
            },
            "provenance": self.provenance,
        }

    def to_csv(self) -> str:
        """Return a CSV with one row per answer."""
        rows = [(*answer, answer.method) for answer in self.results.answers]
        return csv_text([(*Answer._fields, "method"), *rows])

    def to_html(self) -> str:
        """Return the HTML page."""
        provenance = json.dumps(self.provenance, indent=1)
        page = template("pmtool.trial", "report")
        return page.render(report=self, columns=COLUMNS, provenance=provenance)


def report_of(trial: Trial, database: Database) -> Report:
    """Create the report of the answers that stand now."""
    results = Results(collect(trial, database), trial.methods)
    return Report(results, database.undone(), trial.provenance)


def write_report(report: Report, folder: Path) -> None:
    """Write the JSON, the CSV and the page into a folder.

    Raises
    ------
    OutputError
        If a file cannot be written, or the folder holds anything but an earlier report; for a
        simulation, also if that report is on people's answers.
    """
    check_report(folder, FILES, ())
    earlier = read_json(folder / JSON)
    if report.simulated and earlier and not earlier.get("simulated"):
        raise OutputError(f"{folder} holds a report on people's answers: give another folder")
    contents = [json_text(report.to_json()), report.to_csv(), report.to_html()]
    make_folder(folder)
    write_report_files(folder, dict(zip(FILES, contents, strict=True)))


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(aligned([list(heading), *map(list, rows)]))


def _cells(share: Share) -> tuple[str, str, str]:
    """A share, its interval and its p value as text."""
    return chosen(share), _interval(share), _p_value(share.p)


def chosen(share: Share) -> str:
    """Format a share as percentage and counts."""
    if share.share is None:
        return "-"
    return f"{100 * share.share:.1f} % ({share.won} of {share.answers})"


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _seconds(found: Times | None) -> str:
    return "-" if found is None else f"{found.median:.1f} ({found.lower:.1f} to {found.upper:.1f})"


def _share_json(share: Share) -> dict[str, Any]:
    return {
        **asdict(share),
        "share": share.share,
        "interval_95": list(share.interval),
        "p": share.p,
    }
