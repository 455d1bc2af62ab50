"""The report of an evaluation: text for a terminal, JSON and CSV."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pmtool.evaluation import texture
from pmtool.evaluation.results import Results
from pmtool.evaluation.summary import (
    MEASURE_NAMES,
    Figures,
    intervals,
    known_mean,
    left_out,
    plain,
    summary,
)
from pmtool.evaluation.tables import Table, figure, label, tables, text
from pmtool.evaluation.verdict import verdict
from pmtool.system.tables import aligned, csv_text, listed
from pmtool.system.units import counted
from pmtool.system.versions import own_version

FEW_SLICES = 8
"""Fewer slices show whether everything works, but not which method is better."""
CSV_COLUMNS = ("scan", "slice", "method", "measure", "feature", "value", "reference")


@dataclass(frozen=True)
class Report:
    """Results and their provenance.

    Attributes
    ----------
    results
        Scores of all slices and methods.
    provenance
        Provenance of the results, as plain JSON values.
    """

    results: Results
    provenance: dict[str, Any]

    @cached_property
    def figures(self) -> Figures:
        """Measures by method."""
        return summary(self.results)

    @cached_property
    def intervals(self) -> dict[str, dict[str, list[float] | None]]:
        """Intervals of the measures by method."""
        return intervals(self.results)

    @cached_property
    def tables(self) -> list[Table]:
        """The tables of the paper."""
        return tables(self.results, self.figures)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values; ``summary`` has `MEASURE_NAMES` of every method."""
        results = self.results
        return {
            "pmtool": own_version(),
            "verdict": verdict(self.figures),
            "summary": self.figures,
            "intervals_95": self.intervals,
            "reference": {
                name: plain(known_mean(results.truth[name]))
                for name in ("noise_hu", "odd_even_noise")
            },
            "slices": len(results.units),
            "compared_by": "scan" if results.by_scan else "slice",
            "tables": [table.to_json() for table in self.tables],
            "noise_power": {
                name: [plain(x) for x in spectrum] for name, spectrum in results.noise_power.items()
            },
            "left_out": left_out(results),
            "missing": missing(),
            "provenance": self.provenance,
        }

    def to_text(self) -> str:
        """Return the tables and the verdict as text."""
        results, figures = self.results, self.figures
        rows = [["", *(label(method) for method in results.methods)]]
        for key, name in MEASURE_NAMES.items():
            rows.append([name, *(figure(figures[method][key]) for method in results.methods)])
        parts = [
            self.scored(),
            *map(text, self.tables),
            "\n".join(["All measures", *aligned(rows)]),
            *left_out_lines(results),
            *(f"missing: {line}" for line in missing()),
            verdict(figures),
        ]
        return "\n\n".join(parts)

    def to_csv(self) -> str:
        """Return a CSV with a row for every slice, method and measure or feature."""
        rows = [
            (*unit, method, *values)
            for row, method in enumerate(self.results.methods)
            for column, unit in enumerate(self.results.units)
            for values in self._values(row, column)
        ]
        return csv_text([CSV_COLUMNS, *rows])

    def scored(self) -> str:
        """Sentence that says how many slices of which scans were scored."""
        results = self.results
        names = list(dict.fromkeys(results.scans))
        compared = "scan by scan" if results.by_scan else "slice by slice"
        few = "; too few for conclusions" if len(results.units) < FEW_SLICES else ""
        slices = counted(len(results.units), "slice")
        return f"{slices} of {', '.join(names)}, compared {compared}{few}."

    def _values(self, row: int, column: int) -> list[tuple[str, str, float, float | str]]:
        results = self.results
        rows: list[tuple[str, str, float, float | str]] = [
            (name, "", float(values[row, column]), float(results.truth[name][column]))
            for name, values in results.values.items()
        ]
        for number, feature in enumerate(results.features):
            value, truth = (
                x[column, number] for x in (results.texture[row], results.texture_truth)
            )
            rows.append(("texture", feature, float(value), float(truth)))
        for number, feature in enumerate(results.map_features):
            error = float(results.maps[row, column, number])
            rows.append(("map_squared_error", f"glcm_{feature}", error, ""))
        return rows


def missing() -> list[str]:
    """Measures that could not be computed on this machine, one line each."""
    return [] if texture.is_available() else [f"texture in the lungs: {texture.MISSING}"]


def left_out_lines(results: Results) -> list[str]:
    """Lines that list the values left out of all figures."""
    omitted = left_out(results)
    constant = omitted["constant_features"]
    descriptions = {
        "unknown_texture_values": "texture values that are NaN",
        "slices_without_region": "slices without lung or region, hence without texture",
        "slices_without_homogeneous_piece": "slices without homogeneous piece, hence without noise",
        "slices_without_error": "slices of a method that equal the truth, hence without PSNR",
    }
    lines = [f"{what}: {omitted[key]}" for key, what in descriptions.items() if omitted[key]]
    if constant:
        lines.append(f"constant features, which have no concordance: {listed(constant)}")
    return lines
