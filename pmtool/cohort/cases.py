"""The cases of a cohort: scans below a folder or listed in a table, and their outputs' names."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pmtool.cohort.extent import extent_of
from pmtool.cohort.result import summary_files
from pmtool.cohort.search import FoundScan, scans_below
from pmtool.errors import InputError, UsageError
from pmtool.images.names import image_stem
from pmtool.system.files import resolved

PATH, SERIES, MASK, THICKNESS = "path", "series_uid", "mask", "thickness"
"""Columns that pmtool reads from a table; a template may use other columns too."""


@dataclass(frozen=True)
class Case(FoundScan):
    """A scan and the name of its output, a relative path with slashes and without suffix."""

    name: str = field(kw_only=True)


def find_cases(source: Path, template: str | None = None, out: Path | None = None) -> list[Case]:
    """Find the cases below a folder, or those listed in a table, in the order of the table.

    Parameters
    ----------
    source
        A folder, or a CSV with a header line and the column ``path``, absolute or relative to the
        table's folder; ``series_uid``, ``mask`` and ``thickness`` may be given too.
    template
        Template of the names, with ``{folder}``, ``{stem}``, ``{series}``, ``{number}`` and every
        column of the table, as in `str.format`. By default, the scans keep their folders and names.
    out
        Folder of the outputs, which is not searched.

    Raises
    ------
    InputError
        If there are no scans, or the table cannot be read.
    UsageError
        If the template uses an unknown name, makes a hidden file or leads outside the folder of
        the outputs; if ``out`` is the source, or the summary in it would replace the table.
    """
    is_folder = source.is_dir()
    if out is not None:
        _check_apart(resolved(source), resolved(out))
    scans = scans_below(resolved(source), out) if is_folder else _of_table(source)
    if not scans:
        raise InputError(f"{source} holds no scans; give a folder of CTs or a table of them")
    parents = [scan.path.parent for scan in scans]
    root = resolved(source) if is_folder else Path(os.path.commonpath(parents))
    siblings = Counter(scan.path for scan in scans)
    return [
        Case(**vars(scan), name=_name(scan, number, root, template, siblings))
        for number, scan in enumerate(scans, 1)
    ]


def _check_apart(source: Path, out: Path) -> None:
    """Raise `UsageError` if ``out`` is the source or the summary would replace the table."""
    if source == out:
        raise UsageError(f"{out} is where the scans are; name another folder for the outputs")
    if source in summary_files(out):
        raise UsageError(
            f"the cohort's summary would replace the table {source}; rename it, or name another "
            "folder for the outputs"
        )


def _of_table(table: Path) -> list[FoundScan]:
    folder = resolved(table).parent
    return [
        FoundScan(
            _absolute(folder / row[PATH]),
            row.get(SERIES) or None,
            _absolute(folder / row[MASK]) if row.get(MASK) else None,
            extent_of(folder / row[PATH], row.get(SERIES) or None),
            row,
            thickness=_thickness(row.get(THICKNESS), f"line {number} of {table}"),
        )
        for number, row in _lines(table)
    ]


def _lines(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Numbers and cells of a table's lines, except empty ones; raises `InputError`."""
    rows = _rows(table)
    for number, row in rows:
        if any(row.get(None, ())):
            raise InputError(
                f"line {number} of {table} has more cells than there are columns; name them all "
                "in the first line, and put quotes around a cell with commas"
            )
    cells = [(number, _cells(row)) for number, row in rows]
    lines = [(number, row) for number, row in cells if any(row.values())]
    if any("\0" in value for _, row in lines for value in row.values()):
        raise InputError(f"{table} is not a table: give a CSV without NUL characters")
    empty = [number for number, row in lines if not row[PATH]]
    if empty:
        raise InputError(f"{table} names no path in line {empty[0]}; fill it in or delete the line")
    return lines


def _rows(table: Path) -> list[tuple[int, dict[Any, Any]]]:
    """Numbers and rows of a table's lines, as `csv.DictReader` reads them; raises `InputError`."""
    if table.exists() and not table.is_file():
        raise InputError(f"{table} is not a file; give a CSV, or a folder of scans")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames = [_column(name) for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise InputError(
            f"{table} cannot be read ({error.strerror}): give a folder of scans or a CSV"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{table} is not a table: give a CSV in UTF-8") from error
    except csv.Error as error:  # as for a quote that nothing closes: it would hide all lines below
        raise InputError(
            f"{table} is not a table ({error} from line {reader.line_num + 1} on); close all quotes"
        ) from error
    _check_columns(columns, table)
    return rows


def _check_columns(columns: Sequence[str], table: Path) -> None:
    names = list(filter(None, columns))  # Excel leaves empty columns and rows
    if columns.count(PATH) != 1 or len(set(names)) < len(names):
        quoted = ", ".join(map(repr, columns)) or "none"
        raise InputError(
            f"{table} needs a column {PATH!r}, columns of different names, and commas between "
            f"them, not {quoted}: change it"
        )


def _column(name: str) -> str:
    """The name of a column, stripped; in lower case if it is one that pmtool reads."""
    name = name.strip()
    return name.lower() if name.lower() in (PATH, SERIES, MASK, THICKNESS) else name


def _cells(row: Mapping[Any, Any]) -> dict[str, str]:
    """The cells of a row by column, without surrounding spaces."""
    return {k: (v or "").strip() for k, v in row.items() if isinstance(k, str)}


def _thickness(text: str | None, place: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 < value < math.inf:
        return value
    raise InputError(f"{place} has the thickness {text!r}; give a number of mm, or leave it empty")


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - without following links


def _name(
    scan: FoundScan, number: int, root: Path, template: str | None, siblings: Mapping[Path, int]
) -> str:
    stem, series = image_stem(scan.path), scan.series_uid or ""
    folder = scan.path.relative_to(root).parent.as_posix()
    if template is None:
        name = PurePosixPath(folder, stem)
        return str(name / series if siblings[scan.path] > 1 else name)
    own = {"folder": folder, "stem": stem, "series": series, "number": number}
    fields = {**own, **scan.fields}
    try:
        name = PurePosixPath(template.format(**fields))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"the template {template!r} cannot be filled in; it may use {', '.join(fields)}"
        ) from error
    if name.is_absolute() or ".." in name.parts or name.name[:1] in ("", "."):
        raise UsageError(
            f"the template names {str(name)!r}, which is hidden or not a path within a folder"
        )
    return str(name)
