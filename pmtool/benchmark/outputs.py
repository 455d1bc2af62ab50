"""The output files of `pmtool bench`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pmtool.benchmark.page import page
from pmtool.benchmark.report import Report
from pmtool.system.files import write_bytes, write_json
from pmtool.system.outputs import check_distinct_paths, check_no_input, check_output, check_png

Outputs = Mapping[str, Path | None]
"""Paths of the files ``json``, ``page`` and ``picture``; None for a file that is not wanted."""


def check_outputs(outputs: Outputs, source: Path | None, overwrite: bool) -> None:
    """Check the output files before the work begins.

    Parameters
    ----------
    outputs
        Files to write.
    source
        The scan that is read, if any.
    overwrite
        Whether existing files may be replaced.

    Raises
    ------
    UsageError
        If the picture is not a PNG.
    OutputError
        If a file exists, cannot be written, is named twice, or is the scan.
    """
    check_png(outputs["picture"], "picture")
    paths = [path for path in outputs.values() if path is not None]
    for path in paths:
        check_output(path, overwrite)
        check_no_input(path, [] if source is None else [source])
    check_distinct_paths(paths)


def write_outputs(outputs: Outputs, report: Report, values: dict[str, Any]) -> None:
    """Write the wanted files of a report, whose JSON is ``values``; raises `OutputError`."""
    if outputs["json"] is not None:
        write_json(values, outputs["json"])
    if outputs["page"] is not None:
        write_bytes(page(values).encode(), outputs["page"])
    if outputs["picture"] is not None:
        from pmtool.benchmark.picture import draw

        write_bytes(draw(report), outputs["picture"])
