"""``pmtool evaluate`` and ``pmtool compare``: from command-line options to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pmtool.cli import types
from pmtool.cli.console import stages
from pmtool.cli.options import (
    debug_option,
    hu_option,
    large_option,
    method_options,
    quiet_option,
    taken,
)
from pmtool.cli.types import PATH
from pmtool.evaluation import require_packages

workers_option = click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes to use for scoring.  [default: one per CPU]",
)


@click.command()
@click.argument("scans", metavar="SCAN...", type=PATH, nargs=-1, required=True)
@click.option("--out", "folder", type=PATH, required=True, help="Folder for the report.")
@click.option(
    "--methods",
    metavar="NAME,NAME...",
    callback=types.names,
    default="linear,nearest,bspline,windowed_sinc,pixelminer",
    show_default=True,
    help="Methods to evaluate, separated by commas.",
)
@click.option(
    "--mask",
    "masks",
    type=PATH,
    multiple=True,
    help="Region for texture instead of the lungs; repeat for every scan, in order.",
)
@click.option(
    "--slices",
    type=click.IntRange(1),
    help="Slices to score in each scan, drawn at random.  [default: all]",
)
@click.option(
    "--mode",
    "modes",
    type=types.MODE,
    default=["sample"],
    show_default=True,
    multiple=True,
    help="How PixelMiner chooses pixels; repeat to evaluate several modes as methods.",
)
@method_options
@workers_option
@quiet_option
@debug_option
def evaluate(scans: tuple[Path, ...], folder: Path, quiet: bool, **options: Any) -> None:
    """Evaluate slice interpolation on thin-slice SCANs.

    Follows the PixelMiner paper: drops every second slice, regenerates it with every method, and
    scores edges, texture, noise and pixels. Prints the tables and writes report.html, report.json,
    slices.csv and table-1.csv to table-3.csv. Scores are kept in the folder, so adding a method or
    slices computes only what is new.

    Example: pmtool evaluate thin.nrrd --out report --slices 8
    """
    require_packages("pmtool evaluate")
    from pmtool.evaluation.commands import EvaluationOptions
    from pmtool.evaluation.commands import evaluate as run
    from pmtool.images.reading import ReadingOptions
    from pmtool.sampling.options import SamplerOptions

    reading, sampler = taken(ReadingOptions, options), taken(SamplerOptions, options)
    evaluation_options = EvaluationOptions(reading=reading, sampler=sampler, **options)
    with stages(quiet) as tell:
        text = run(scans, folder, evaluation_options, tell)
    click.echo(text)


@click.command()
@click.argument("volumes", metavar="A B", type=PATH, nargs=2)
@click.option("--reference", type=PATH, required=True, help="True volume to score against.")
@click.option("--out", "folder", type=PATH, help="Folder to write a report to.")
@click.option("--mask", type=PATH, help="Region for texture instead of the lungs.")
@workers_option
@hu_option
@large_option
@quiet_option
@debug_option
def compare(
    volumes: tuple[Path, Path],
    reference: Path,
    folder: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Score volumes A and B against a reference volume.

    Uses the measures of pmtool evaluate. Slices that equal the reference in both volumes are left
    out, unless all do.
    """
    require_packages("pmtool compare")
    from pmtool.evaluation.compare import compare as run
    from pmtool.images.reading import ReadingOptions

    reading = taken(ReadingOptions, options)
    with stages(quiet) as tell:
        text = run(volumes, reference, folder, tell, reading=reading, **options)
    click.echo(text)
