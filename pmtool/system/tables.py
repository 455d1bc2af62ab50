"""Tables and lists as text."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO

_LISTED = 5


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column aligned left and all others right."""
    widths = _widths(rows)
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def listed(items: Sequence[str]) -> str:
    """The first items, separated by commas, and how many more there are."""
    left = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {left} more" if left > 0 else "")


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns as wide as needed."""
    widths = _widths([heading, *rows])
    lines = [heading, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as the content of a CSV file."""
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
