"""``pmtool resample``: options to a call of `pmtool.resample`."""

from __future__ import annotations

from typing import Any

import click

from pmtool.cli.console import narration, progress_bar
from pmtool.cli.options import debug_option, resampling_options, series_option
from pmtool.cli.types import FORMAT, MASK_INTERPOLATION, PATH, SLASHED, SpacingCommand


@click.command(cls=SpacingCommand)
@click.argument("source", metavar="[IN]", type=SLASHED, required=False)
@click.argument("target", metavar="[OUT]", type=SLASHED, required=False)
@click.option("-i", "--input", "source_option", metavar="IN", type=SLASHED, help="Instead of IN.")
@click.option(
    "-o", "--output", "target_option", metavar="OUT", type=SLASHED, help="Instead of OUT."
)
@resampling_options
@click.option("--reference", type=PATH, help="An image whose slices to meet instead.")
@series_option
@click.option(
    "--format",
    "file_format",
    type=FORMAT,
    help="Of OUT, where its suffix does not say it: a folder, ending with a slash, is for DICOM.",
)
@click.option("--samples", type=int, default=1, help="Of every slice, for --uncertainty.")
@click.option("--uncertainty", type=PATH, help="Write the samples' standard deviation, HU.")
@click.option("--seg", "segmentation", type=PATH, help="A mask to bring along.")
@click.option("--seg-out", "segmentation_out", type=PATH, help="Where to write it.")
@click.option(
    "--seg-interpolation",
    "segmentation_interpolation",
    type=MASK_INTERPOLATION,
    default="nearest",
    show_default=True,
    help="Of the mask; linear has the threshold 0.5, shape goes from outline to outline.",
)
@click.option("--preview", type=PATH, help="Write a PNG: before and after.")
@click.option("--statistics", type=PATH, help="Write JSON: mean and noise of every slice.")
@click.option("--overwrite", is_flag=True, help="Replace files and discard an interrupted run.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Tell more.")
@debug_option
def resample(
    source: str | None,
    target: str | None,
    source_option: str | None,
    target_option: str | None,
    spacing: tuple[float, ...] | None,
    file_format: str | None,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Refine the spacing between a CT's slices: IN to OUT.

    Reads and writes NRRD, NIfTI, MetaImage and DICOM in HU; a folder OUT/ is for a DICOM series,
    if IN is one. Acquired slices stay as they are under the default grid. OUT.json tells where
    every slice comes from; OUT.partial keeps finished slices while the work goes on.

    Example: pmtool resample --spacing 1.25 ct.nrrd fine.nrrd
    """
    from pmtool.resampling.options import with_format
    from pmtool.resampling.resample import resample as run

    with narration(quiet, verbose):
        given, wanted = _one_each(source, target, source_option, target_option)
        output = with_format(wanted, file_format)
        with progress_bar(quiet) as progress:
            run(given, spacing, output, progress=progress, **options)


def _one_each(
    source: str | None, target: str | None, source_option: str | None, target_option: str | None
) -> tuple[str, str]:
    """IN and OUT, each given once; with ``-i`` a single argument is OUT."""
    if source_option is not None and source is not None and target is None:
        source, target = None, source
    sources = [path for path in (source, source_option) if path is not None]
    targets = [path for path in (target, target_option) if path is not None]
    if len(sources) != 1 or len(targets) != 1:
        raise click.UsageError("give IN and OUT once each, as arguments or as -i and -o")
    return sources[0], targets[0]
