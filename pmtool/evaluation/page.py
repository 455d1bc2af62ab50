"""Rendering a report as a self-contained HTML page, and writing all its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pmtool.evaluation.folder import CSV, JSON, PAGE, TABLES
from pmtool.evaluation.pictures import DIFFERENCES, examples
from pmtool.evaluation.plots import feature_plot, noise_power_plot
from pmtool.evaluation.report import Report, left_out_lines, missing
from pmtool.evaluation.run import Case
from pmtool.evaluation.summary import MEASURE_NAMES
from pmtool.evaluation.tables import figure, label
from pmtool.evaluation.verdict import verdict
from pmtool.images.display import LUNG_WINDOW
from pmtool.system.files import json_text
from pmtool.system.outputs import write_report_files
from pmtool.system.tables import csv_text
from pmtool.system.templates import template


def write_report(report: Report, cases: Sequence[Case], folder: Path) -> None:
    """Write the JSON, the CSVs and the page into a folder; raises `OutputError`."""
    contents = {
        JSON: json_text(report.to_json()),
        CSV: report.to_csv(),
        PAGE: html(report, cases),
    }
    tables = {table.number: csv_text(table.rows()) for table in report.tables}
    written = {name: tables.get(number) for number, name in TABLES.items()}
    write_report_files(folder, contents | written)


def html(report: Report, cases: Sequence[Case]) -> str:
    """Render the HTML page; the cases make the slices that it shows."""
    results = report.results
    units = "scans" if results.by_scan else "slices, which of one scan resemble each other"
    return template("pmtool.evaluation", "report").render(
        title="Slice interpolation, evaluated",
        verdict=verdict(report.figures),
        scored=report.scored(),
        missing=missing(),
        methods=[label(method) for method in results.methods],
        measures=[(name, _cells(report, key)) for key, name in MEASURE_NAMES.items()],
        interval_note=f"Intervals by bootstrap over {units}.",
        tables=report.tables,
        examples=examples(cases),
        lung_window=LUNG_WINDOW,
        differences=DIFFERENCES,
        noise_power=noise_power_plot(results),
        features=feature_plot(results) if results.features else "",
        left_out=left_out_lines(results) or ["nothing"],
        provenance=json.dumps(report.provenance, indent=1),
    )


def _cells(report: Report, key: str) -> list[tuple[str, str]]:
    """Values of a measure and their intervals, as text, one pair per method."""
    return [
        (figure(row[key]), _interval(report.intervals[method][key]))
        for method, row in report.figures.items()
    ]


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
