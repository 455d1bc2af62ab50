"""The files of an evaluation: JSON, CSV and a page; and its text for a terminal."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

import pmtool
from pmtool.evaluation import texture
from pmtool.evaluation.pictures import DIFFERENCES, LUNG_WINDOW, examples
from pmtool.evaluation.plots import feature_plot, noise_power_plot
from pmtool.evaluation.results import Results
from pmtool.evaluation.run import Case
from pmtool.evaluation.summary import intervals, known_mean, left_out, summary
from pmtool.evaluation.tables import aligned, label, tables, text
from pmtool.evaluation.verdict import verdict
from pmtool.report import write_bytes, write_json

JSON, CSV, PAGE = "report.json", "slices.csv", "report.html"
MEASURE_NAMES = {
    "edge_share": "Edge share (0.5 is best)",
    "epr": "EPR",
    "texture_nrmse": "Texture NRMSE",
    "ccc_mean": "Mean CCC of texture",
    "ccc_share": "Features with CCC >= 0.85",
    "msmfe": "MSMFE",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "mae_hu": "MAE, HU",
    "odd_even_noise": "Noise, made / acquired (1 is best)",
}


@dataclass(frozen=True)
class Report:
    """Results and where they come from.

    Attributes
    ----------
    provenance
        Plain JSON values.
    """

    results: Results
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``summary`` has `pmtool.evaluation.summary.KEYS` of every method."""
        results, figures = self.results, summary(self.results)
        return {
            "pmtool": pmtool.__version__,
            "verdict": verdict(figures),
            "summary": figures,
            "intervals_95": intervals(results),
            "reference": {name: _plain(known_mean(x)) for name, x in self._noise().items()},
            "slices": len(results.units),
            "compared_by": "scan" if results.by_scan else "slice",
            "tables": [table.to_json() for table in tables(results)],
            "noise_power": {
                name: [_plain(x) for x in spectrum]
                for name, spectrum in results.noise_power.items()
            },
            "left_out": left_out(results),
            "missing": missing(),
            "provenance": self.provenance,
        }

    def to_text(self) -> str:
        """The verdict and the tables."""
        results, figures = self.results, summary(self.results)
        rows = [["", *(label(method) for method in results.methods)]]
        for key, name in MEASURE_NAMES.items():
            rows.append([name, *(_figure(figures[method][key]) for method in results.methods)])
        parts = [
            self.scored(),
            *(text(table) for table in tables(results)),
            "\n".join(["All measures", *aligned(rows)]),
            *left_out_lines(results),
            *(f"missing: {line}" for line in missing()),
            verdict(figures),
        ]
        return "\n\n".join(parts)

    def to_csv(self) -> str:
        """A row for every slice, method and feature."""
        buffer = StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(("scan", "slice", "method", "measure", "feature", "value", "reference"))
        for row, method in enumerate(self.results.methods):
            for column, unit in enumerate(self.results.units):
                for measure, feature, value, truth in self._values(row, column):
                    writer.writerow((*unit, method, measure, feature, value, truth))
        return buffer.getvalue()

    def to_html(self, cases: Sequence[Case]) -> str:
        """One page that needs no other file."""
        from jinja2 import Environment, StrictUndefined

        source = files("pmtool.evaluation").joinpath("page.html.j2").read_text()
        template = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
        results, figures, ranges = self.results, summary(self.results), intervals(self.results)
        measures = [
            (name, [(_figure(figures[m][key]), _interval(ranges[m][key])) for m in results.methods])
            for key, name in MEASURE_NAMES.items()
        ]
        drawn = "scans" if results.by_scan else "slices, which of one scan resemble each other"
        return template.render(
            title="Slice interpolation, evaluated",
            verdict=verdict(figures),
            scored=self.scored(),
            missing=missing(),
            methods=[label(method) for method in results.methods],
            measures=measures,
            interval_note=f"Intervals by bootstrap over {drawn}.",
            tables=tables(results),
            label=label,
            examples=examples(cases),
            lung_window=LUNG_WINDOW,
            differences=DIFFERENCES,
            noise_power=noise_power_plot(results),
            features=feature_plot(results) if results.features else "",
            left_out=left_out_lines(results) or ["nothing"],
            provenance=json.dumps(self.provenance, indent=1),
        )

    def write(self, folder: Path, cases: Sequence[Case]) -> None:
        """Write all files into a folder; raises `OutputError`."""
        page = self.to_html(cases)
        write_bytes(self.to_csv().encode(), folder / CSV)
        write_bytes(page.encode(), folder / PAGE)
        write_json(self.to_json(), folder / JSON)

    def scored(self) -> str:
        """How many slices of which scans."""
        results = self.results
        names = list(dict.fromkeys(results.scans))
        compared = "scan by scan" if results.by_scan else "slice by slice"
        return f"{len(results.units)} slices of {', '.join(names)}, compared {compared}."

    def _noise(self) -> dict[str, Any]:
        return {name: self.results.truth[name] for name in ("noise_hu", "odd_even_noise")}

    def _values(self, row: int, column: int) -> list[tuple[str, str, float, float | str]]:
        results = self.results
        found: list[tuple[str, str, float, float | str]] = [
            (name, "", float(values[row, column]), float(results.truth[name][column]))
            for name, values in results.values.items()
        ]
        for number, feature in enumerate(results.features):
            value, truth = (
                x[column, number] for x in (results.texture[row], results.texture_truth)
            )
            found.append(("texture", feature, float(value), float(truth)))
        for number, feature in enumerate(results.map_features):
            error = float(results.maps[row, column, number])
            found.append(("map_squared_error", f"glcm_{feature}", error, ""))
        return found


def missing() -> list[str]:
    """What could not be measured here."""
    return [] if texture.is_available() else [f"texture in the lungs: {texture.MISSING}"]


def left_out_lines(results: Results) -> list[str]:
    """Sentences on what no figure counts."""
    found = left_out(results)
    constant = found["constant_features"]
    told = {
        "unknown_texture_values": "texture values are NaN",
        "slices_without_region": "slices have no lung or region, and no texture",
        "slices_without_homogeneous_piece": "slices have no homogeneous piece, and no noise",
    }
    lines = [f"{found[key]} {what}" for key, what in told.items() if found[key]]
    if constant:
        lines.append(f"constant features, which have no concordance: {', '.join(constant)}")
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
