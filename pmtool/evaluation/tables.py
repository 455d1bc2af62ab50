"""The paper's tables 1 to 3: mean, standard deviation, and which method is better in each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from pmtool.arrays import Float64s
from pmtool.evaluation.results import Results
from pmtool.evaluation.scoring import REFERENCE
from pmtool.evaluation.statistics import Duel, duel, holm
from pmtool.evaluation.summary import Figures, known_mean, plain
from pmtool.system.tables import aligned

SIGNIFICANT = 0.01
LABELS = {
    REFERENCE: "Truth",
    "linear": "Linear",
    "nearest": "Nearest neighbour",
    "bspline": "B-spline",
    "windowed_sinc": "Windowed sinc",
    "pixelminer": "PixelMiner",
    "pixelminer-median": "PixelMiner, median",
    "pixelminer-mean": "PixelMiner, mean",
}


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    number
        Number in the paper; 1b is an addition.
    title
        Title of the table.
    methods
        Names of the methods, one per row.
    columns
        Figures of the methods as text, by heading.
    pairs
        Unit in which the duels are counted: scans, slices, or slices and features.
    duels
        Duels by row and column, with p values corrected by Holm over the pairs of the table.
    """

    number: str
    title: str
    methods: Sequence[str]
    columns: dict[str, list[str]]
    pairs: str
    duels: dict[tuple[str, str], Duel]

    def cell(self, row: str, column: str) -> str:
        """Percentage of pairs, except ties, in which the row's method is better than the column's.

        A star marks a result that both tests find significant.
        """
        outcome = self.duels.get((row, column))
        if outcome is None or outcome.share is None:
            return "-"
        sure = max(outcome.binomial, outcome.wilcoxon) < SIGNIFICANT
        return f"{100 * outcome.share:.1f}{'*' if sure else ''}"

    @property
    def legend(self) -> str:
        """Explanation of the duels."""
        return (
            f"right: % of {self.pairs} where the row is better than the column; "
            f"* both tests p < {SIGNIFICANT}"
        )

    def rows(self) -> list[list[str]]:
        """Headings and, for every method, its name, its figures and its duels, as text."""
        heads = ["Method", *self.columns, *(f"> {label(method)}" for method in self.methods)]
        rows = [
            [
                label(method),
                *(cells[number] for cells in self.columns.values()),
                *(self.cell(method, other) for other in self.methods),
            ]
            for number, method in enumerate(self.methods)
        ]
        return [heads, *rows]

    def notes(self) -> list[str]:
        """Notes below the table on pairs that are left out."""
        ties = sum(outcome.ties for (a, b), outcome in self.duels.items() if a < b)
        unknown = sum(outcome.unknown for (a, b), outcome in self.duels.items() if a < b)
        counts = (("ties", ties), ("pairs with NaN", unknown))
        left = "; ".join(f"{number} {what} left out" for what, number in counts if number)
        return [left] if left else []

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain values."""
        duels: dict[str, dict[str, Any]] = {method: {} for method in self.methods}
        for (row, column), outcome in self.duels.items():
            duels[row][column] = {"share": outcome.share, **outcome._asdict()}
        return {
            "title": self.title,
            "columns": {
                heading: dict(zip(self.methods, cells, strict=True))
                for heading, cells in self.columns.items()
            },
            "pairs": self.pairs,
            "row_better_than_column": duels,
        }


def tables(results: Results, figures: Figures) -> list[Table]:
    """Tables of edge share, EPR, texture and feature maps; the last two only if measured.

    ``figures`` are the `summary` of the results.
    """
    cases = "scans" if results.by_scan else "slices"
    share, epr = (results.per_case(results.values[name]) for name in ("edge_share", "epr"))
    features = "slices and features"
    all_tables = [
        _table(
            "1",
            "Edge share, best at 0.5 (the paper's EPR as its authors' code computes it)",
            results,
            _mean_and_deviation(share),
            cases,
            np.abs(share - 0.5),
        ),
        _table(
            "1b",
            "Edge preservation ratio, EPR, as the paper's source defines it",
            results,
            _mean_and_deviation(epr),
            cases,
            -epr,
        ),
    ]
    if results.features:
        all_tables.append(_texture_table(results, figures, features))
    if results.map_features:
        maps = _flat(results.map_errors)
        all_tables.append(
            _table(
                "3",
                "Error of the maps of GLCM features, MSMFE",
                results,
                _mean_and_deviation(maps),
                features,
                maps,
            )
        )
    return all_tables


def text(table: Table) -> str:
    """Format a table for a terminal."""
    return "\n".join([table.title, table.legend, *aligned(table.rows()), *table.notes()])


def label(method: str) -> str:
    """Display name of a method or of the truth."""
    return LABELS.get(method, method)


def _texture_table(results: Results, figures: Figures, pairs: str) -> Table:
    errors = _flat(results.texture_errors)
    concordances = {
        "CCC": [_percent(figures[m]["ccc_mean"]) for m in results.methods],
        ">= 0.85": [_percent(figures[m]["ccc_share"]) for m in results.methods],
    }
    title = "Texture in the lungs or the mask: concordance, %, and error of its features"
    columns = concordances | _mean_and_deviation(errors, "NRMSE")
    return _table("2", title, results, columns, pairs, errors)


def _table(
    number: str,
    title: str,
    results: Results,
    columns: dict[str, list[str]],
    pairs: str,
    errors: Float64s,
) -> Table:
    duels = _duels(results.methods, errors)
    return Table(number, f"Table {number}. {title}", results.methods, columns, pairs, duels)


def _duels(methods: Sequence[str], errors: Float64s) -> dict[tuple[str, str], Duel]:
    """Duels of all pairs of methods, by row and column, from ``errors`` ``(methods, pairs)``.

    The two orders of a pair count as one comparison in Holm's correction.
    """
    once = [duel(one, other) for one, other in combinations(errors, 2)]
    adjusted = (
        holm([outcome.binomial for outcome in once]),
        holm([outcome.wilcoxon for outcome in once]),
    )
    duels: dict[tuple[str, str], Duel] = {}
    for pair, outcome, *p in zip(combinations(methods, 2), once, *adjusted, strict=True):
        duels[pair] = outcome._replace(binomial=p[0], wilcoxon=p[1])
        duels[pair[::-1]] = duels[pair].mirrored
    return duels


def _flat(errors: Float64s) -> Float64s:
    return errors.reshape(len(errors), -1)


def _mean_and_deviation(values: Float64s, heading: str = "Mean") -> dict[str, list[str]]:
    """Columns with mean and sample standard deviation of every method's known values."""
    finite_rows = [row[np.isfinite(row)] for row in values]
    return {
        heading: [figure(plain(known_mean(row))) for row in finite_rows],
        "SD": [figure(float(row.std(ddof=1)) if row.size > 1 else None) for row in finite_rows],
    }


def figure(value: float | None) -> str:
    """Format a measure as text."""
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
