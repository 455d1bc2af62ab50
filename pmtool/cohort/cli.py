"""``pmtool cohort``: from command-line options to a request; the work is done elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pmtool.cli.console import narration, status_line
from pmtool.cli.options import debug_option, quiet_option, resampling_options, taken, verbose_option
from pmtool.cli.types import FORMAT, MASK_INTERPOLATION, PATH, SpacingCommand
from pmtool.evaluation import require_packages
from pmtool.system.extras import require


@click.command(cls=SpacingCommand)
@click.argument("source", metavar="IN", type=PATH)
@click.argument("folder", metavar="OUT", type=PATH)
@resampling_options
@click.option(
    "--samples",
    type=int,
    default=1,
    help="Samples to draw per slice; more than 1 also writes their standard deviation.",
)
@click.option(
    "--format",
    "file_format",
    type=FORMAT,
    help="Format of the outputs.  [default: that of the scan; NRRD for DICOM]",
)
@click.option(
    "--name",
    "template",
    metavar="TEMPLATE",
    help="Template for output names, such as {folder}/{stem}-fine; also takes {series}, {number} "
    "and the columns of a table.",
)
@click.option(
    "--seg-interpolation",
    "mask_interpolation",
    type=MASK_INTERPOLATION,
    default="nearest",
    show_default=True,
    help="Interpolation of the table's masks, as in pmtool resample.",
)
@click.option(
    "--preview",
    is_flag=True,
    help="Write a PNG with planes before, after and linear of every case.",
)
@click.option(
    "--statistics", is_flag=True, help="Write the mean and noise of every slice of a case as JSON."
)
@click.option("--evaluate", is_flag=True, help="Also run pmtool evaluate on every case.")
@click.option(
    "--evaluate-slices",
    type=click.IntRange(1),
    help="Slices per case for --evaluate.  [default: all]",
)
@click.option(
    "--skip-existing/--no-skip-existing",
    default=True,
    show_default=True,
    help="Keep outputs made from the same input with the same model and options.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Address of a running Dask scheduler to use.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="Worker processes on this machine; 0 works in the calling process.  [default: by cores, "
    "memory and GPUs]",
)
@click.option(
    "--dry-run", is_flag=True, help="Show what would be done, with sizes and hours, and stop."
)
@click.option(
    "--log-json", type=PATH, help="Append the log to this file, one JSON object per line."
)
@quiet_option
@verbose_option
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
    """Resample every CT in IN into the folder OUT.

    IN is a folder, which is searched with its subfolders for NRRD, NIfTI and MetaImage files and
    DICOM series; or a CSV table with a column path and optionally series_uid, mask, thickness and
    others for use in --name. Finished work is kept: repeat the command after an interruption, or
    with more scans. OUT/summary.csv and OUT/summary.json list the outcome of every case.

    Example: pmtool cohort --spacing 1.25 scans fine
    """
    from pmtool.cohort.cases import find_cases
    from pmtool.cohort.logs import json_log
    from pmtool.cohort.request import Request
    from pmtool.cohort.result import conclusion
    from pmtool.cohort.run import Workers, dry_run_text, run_cohort
    from pmtool.resampling.options import Options

    if spacing is None:
        raise click.UsageError("give --spacing, the distance of slices that is wanted")
    if workers != 0 and not dry_run:
        require("pmtool cohort", ("distributed",), "pmtool[cohort]")
    if asked["evaluate"]:
        require_packages("pmtool cohort --evaluate")
    request = Request(folder, spacing, taken(Options, asked), **asked)
    where = Workers(workers, scheduler)
    with status_line(quiet) as show, narration(quiet, verbose), json_log(log_json):
        cases = find_cases(source, template, folder)
        if dry_run:
            click.echo(dry_run_text(cases, request, where))
            return
        results = run_cohort(cases, request, where, show or (lambda tally: None))
    click.echo(conclusion(results, folder))
