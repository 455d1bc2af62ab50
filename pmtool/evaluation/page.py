"""The report as one page that needs no other file, and all files of a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from pmtool.evaluation.folder import CSV, FILES, JSON, PAGE
from pmtool.evaluation.pictures import DIFFERENCES, examples
from pmtool.evaluation.plots import feature_plot, noise_power_plot
from pmtool.evaluation.report import Report, figure, left_out_lines, missing
from pmtool.evaluation.run import Case
from pmtool.evaluation.summary import MEASURE_NAMES
from pmtool.evaluation.tables import label
from pmtool.evaluation.verdict import verdict
from pmtool.images.display import LUNG_WINDOW
from pmtool.system.files import alone_in, remove_leftovers, write_bytes, write_json


def write_report(report: Report, cases: Sequence[Case], folder: Path) -> None:
    """Write the JSON, the CSV and the page into a folder; raises `OutputError`."""
    page = html(report, cases)
    with alone_in(folder, wait=True):
        for name in FILES:
            remove_leftovers(folder / name)
        write_json(report.to_json(), folder / JSON)
        write_bytes(report.to_csv().encode(), folder / CSV)
        write_bytes(page.encode(), folder / PAGE)


def html(report: Report, cases: Sequence[Case]) -> str:
    """The page; the cases make the slices that it shows."""
    from jinja2 import Environment, StrictUndefined

    source = files("pmtool.evaluation").joinpath("page.html.j2").read_text()
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    results = report.results
    drawn = "scans" if results.by_scan else "slices, which of one scan resemble each other"
    return template.render(
        title="Slice interpolation, evaluated",
        verdict=verdict(report.figures),
        scored=report.scored(),
        missing=missing(),
        methods=[label(method) for method in results.methods],
        measures=[(name, _cells(report, key)) for key, name in MEASURE_NAMES.items()],
        interval_note=f"Intervals by bootstrap over {drawn}.",
        tables=report.tables,
        label=label,
        examples=examples(cases),
        lung_window=LUNG_WINDOW,
        differences=DIFFERENCES,
        noise_power=noise_power_plot(results),
        features=feature_plot(results) if results.features else "",
        left_out=left_out_lines(results) or ["nothing"],
        provenance=json.dumps(report.provenance, indent=1),
    )


def _cells(report: Report, key: str) -> list[tuple[str, str]]:
    """A measure and its interval, of every method."""
    return [
        (figure(row[key]), _interval(report.intervals[method][key]))
        for method, row in report.figures.items()
    ]


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
