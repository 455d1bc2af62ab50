"""``pmtool cohort``: options to a request; the work is done elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pmtool.cli.console import narration, status_line
from pmtool.cli.options import debug_option, resampling_options, taken
from pmtool.cli.types import FORMAT, MASK_INTERPOLATION, PATH, SpacingCommand


@click.command(cls=SpacingCommand)
@click.argument("source", metavar="IN", type=PATH)
@click.argument("folder", metavar="OUT", type=PATH)
@resampling_options
@click.option("--samples", type=int, default=1, help="Of every slice; more give an uncertainty.")
@click.option(
    "--format",
    "file_format",
    type=FORMAT,
    help="Of the outputs.  [default: the scan's; NRRD for DICOM]",
)
@click.option(
    "--name",
    "template",
    metavar="TEMPLATE",
    help="Of the outputs, like {folder}/{stem}-fine; also {series}, {number}, a table's columns.",
)
@click.option(
    "--seg-interpolation",
    "mask_interpolation",
    type=MASK_INTERPOLATION,
    default="nearest",
    show_default=True,
    help="Of the table's masks; see pmtool resample.",
)
@click.option("--preview", is_flag=True, help="A PNG of every case: before and after.")
@click.option("--statistics", is_flag=True, help="JSON of every case's slices: mean and noise.")
@click.option("--evaluate", is_flag=True, help="Run pmtool evaluate on every case too.")
@click.option("--evaluate-slices", type=click.IntRange(1), help="Of a case.  [default: all]")
@click.option(
    "--skip-existing/--no-skip-existing",
    default=True,
    show_default=True,
    help="Keep what was made of the same input by the same model and options.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster that runs already.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="Processes here; 0 for this very one.  [default: by cores, memory and GPUs]",
)
@click.option("--dry-run", is_flag=True, help="Tell what would be done, with sizes and hours.")
@click.option("--log-json", type=PATH, help="Append the log to a file, a JSON object a line.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Tell more.")
@debug_option
def cohort(
    source: Path,
    folder: Path,
    spacing: tuple[float, ...] | None,
    template: str | None,
    scheduler: str | None,
    workers: int | None,
    dry_run: bool,
    log_json: Path | None,
    quiet: bool,
    verbose: bool,
    **asked: Any,
) -> None:
    """Resample all CTs of IN into the folder OUT.

    IN is a folder, searched with its subfolders for NRRD, NIfTI, MetaImage and DICOM series; or a
    CSV table with a column path, and optionally series_uid, mask and others for --name. What is
    finished is kept: repeat the command after an interruption, or with more scans. OUT/summary.csv
    and OUT/summary.json tell what became of every case.

    Example: pmtool cohort --spacing 1.25 scans fine
    """
    from pmtool.cohort.cases import find_cases
    from pmtool.cohort.logs import json_log
    from pmtool.cohort.request import Request
    from pmtool.cohort.result import conclusion
    from pmtool.cohort.run import Means, dry_run_text, run_cohort
    from pmtool.resampling.options import Options
    from pmtool.system.extras import require

    if spacing is None:
        raise click.UsageError("give --spacing, the distance of slices that is wanted")
    if workers != 0 and not dry_run:
        require("pmtool cohort", ("distributed",), "pmtool[cohort]")
    if asked["evaluate"]:
        from pmtool.evaluation import EXTRAS, PACKAGES

        require("pmtool cohort --evaluate", PACKAGES, EXTRAS)
    request = Request(folder, spacing, taken(Options, asked), **asked)
    means = Means(workers, scheduler)
    with status_line(quiet) as watch, narration(quiet, verbose), json_log(log_json):
        cases = find_cases(source, template, folder)
        if dry_run:
            click.echo(dry_run_text(cases, request, means))
            return
        results = run_cohort(cases, request, means, watch)
    click.echo(conclusion(results, folder))
