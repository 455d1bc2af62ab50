"""``pmtool evaluate`` and ``pmtool compare``: options to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pmtool.cli import types
from pmtool.cli.console import narration, stages
from pmtool.cli.options import debug_option, hu_option, method_options, taken
from pmtool.cli.types import PATH


@click.command()
@click.argument("scans", metavar="SCAN...", type=PATH, nargs=-1, required=True)
@click.option("--out", "folder", type=PATH, required=True, help="Folder of the report.")
@click.option(
    "--methods",
    metavar="NAME,NAME...",
    callback=types.names,
    default="linear,nearest,bspline,windowed_sinc,pixelminer",
    show_default=True,
)
@click.option("--mask", "masks", type=PATH, multiple=True, help="Own region instead of lungs.")
@click.option("--slices", type=click.IntRange(1), help="Of each scan, at random.  [default: all]")
@click.option(
    "--mode",
    "modes",
    type=types.MODE,
    default=["sample"],
    show_default=True,
    multiple=True,
    help="Of PixelMiner; each is a method.",
)
@method_options
@click.option("--workers", type=click.IntRange(1), help="Processes that score.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def evaluate(scans: tuple[Path, ...], folder: Path, quiet: bool, **options: Any) -> None:
    """Measure slice interpolation on thin SCANs, as the PixelMiner paper does.

    Drops every second slice, makes it again by every method, and scores edges, texture, noise and
    pixels. Prints the tables and writes report.html, report.json and slices.csv. What was scored
    is kept in the folder: a further method or more slices cost only themselves.

    Example: pmtool evaluate thin.nrrd --out report --slices 8
    """
    from pmtool.evaluation.commands import EvaluationOptions
    from pmtool.evaluation.commands import evaluate as run
    from pmtool.sampling.options import SamplerOptions

    asked = EvaluationOptions(sampler=taken(SamplerOptions, options), **options)
    with narration(quiet, False), stages(quiet) as tell:
        told = run(scans, folder, asked, tell)
    click.echo(told)


@click.command()
@click.argument("volumes", metavar="A B", type=PATH, nargs=2)
@click.option("--reference", type=PATH, required=True, help="The true volume.")
@click.option("--out", "folder", type=PATH, help="Folder of a report.")
@click.option("--mask", type=PATH, help="Own region instead of lungs.")
@click.option("--workers", type=click.IntRange(1), help="Processes that score.")
@hu_option
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def compare(
    volumes: tuple[Path, Path],
    reference: Path,
    folder: Path | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Score volumes A and B by a reference, with the measures of pmtool evaluate.

    Slices that are the reference's in both are left out.
    """
    from pmtool.evaluation.compare import compare as run

    with narration(quiet, False), stages(quiet) as tell:
        told = run(volumes, reference, folder, tell, **options)
    click.echo(told)
