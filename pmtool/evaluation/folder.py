"""The folder of a report."""

from __future__ import annotations

from pathlib import Path

from pmtool.system.outputs import check_report

JSON, CSV, PAGE = "report.json", "slices.csv", "report.html"
TABLES = {number: f"table-{number}.csv" for number in ("1", "1b", "2", "3")}
"""Names of the files of tables, by number."""
FILES = (JSON, CSV, PAGE, *TABLES.values())
CACHE = "cache"
"""Name of the folder within it that keeps scores and generated slices."""


def check_report_folder(folder: Path) -> None:
    """Raise `OutputError` if a folder holds anything but an earlier report."""
    check_report(folder, FILES, {CACHE})
