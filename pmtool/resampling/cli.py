"""``pmtool resample``: from command-line options to a call of `pmtool.resample`."""

from __future__ import annotations

from typing import Any

import click

from pmtool.cli.console import SliceProgress, narration, status_line
from pmtool.cli.options import (
    debug_option,
    quiet_option,
    resampling_options,
    series_option,
    verbose_option,
)
from pmtool.cli.types import FORMAT, MASK_INTERPOLATION, PATH, SLASHED, SpacingCommand


@click.command(cls=SpacingCommand)
@click.argument("source", metavar="[IN]", type=SLASHED, required=False)
@click.argument("target", metavar="[OUT]", type=SLASHED, required=False)
@click.option(
    "-i", "--input", "source_option", metavar="IN", type=SLASHED, help="Input, in place of IN."
)
@click.option(
    "-o", "--output", "target_option", metavar="OUT", type=SLASHED, help="Output, in place of OUT."
)
@resampling_options
@click.option(
    "--reference", type=PATH, help="Take slice positions from this image instead of --spacing."
)
@series_option
@click.option(
    "--format",
    "file_format",
    type=FORMAT,
    help="Format of OUT if it has no suffix; dicom writes a folder, like an OUT that ends with a "
    "slash.",
)
@click.option(
    "--samples",
    type=int,
    help="Samples to draw per slice, the first for OUT.  [default: 1, or 8 with --uncertainty]",
)
@click.option(
    "--uncertainty",
    type=PATH,
    help="Write the standard deviation of the samples, in HU, to this file.  [default: beside OUT, "
    "with --samples]",
)
@click.option(
    "--seg",
    "segmentation",
    type=PATH,
    help="Segmentation to resample onto the output grid.",
)
@click.option(
    "--seg-out",
    "segmentation_out",
    type=PATH,
    help="File for the resampled segmentation.  [default: OUT's name with .mask, with --seg]",
)
@click.option(
    "--seg-interpolation",
    "segmentation_interpolation",
    type=MASK_INTERPOLATION,
    default="nearest",
    show_default=True,
    help="Interpolation of the segmentation; linear uses a threshold of 0.5, shape interpolates "
    "between outlines.",
)
@click.option(
    "--preview", type=PATH, help="Write a PNG with planes before, after and linear to this file."
)
@click.option(
    "--statistics", type=PATH, help="Write the mean and noise of every slice to this file as JSON."
)
@click.option(
    "--overwrite", is_flag=True, help="Replace existing files and discard an interrupted run."
)
@click.option(
    "--resume", is_flag=True, help="Continue an interrupted run, or add files to a complete one."
)
@quiet_option
@verbose_option
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
    """Resample a CT to a finer slice spacing: IN to OUT.

    Reads and writes NRRD, NIfTI, MetaImage and DICOM in HU; if IN is DICOM, a folder OUT/ receives
    a DICOM series. With the default grid, acquired slices are kept unchanged wherever the new
    spacing meets them. OUT.json records where every slice comes from; OUT.partial holds finished
    slices while the work is in progress.

    Example: pmtool resample --spacing 1.25 ct.nrrd fine.nrrd
    """
    from pmtool.resampling.options import with_format
    from pmtool.resampling.resample import resample as run

    input_path, output_path = _one_each(source, target, source_option, target_option)
    output = with_format(output_path, file_format)
    with status_line(quiet) as show, narration(quiet, verbose):
        progress = None if quiet else SliceProgress(show)
        run(input_path, spacing, output, progress=progress, **options)


def _one_each(
    source: str | None, target: str | None, source_option: str | None, target_option: str | None
) -> tuple[str, str]:
    """IN and OUT, each given exactly once; with ``-i`` a single argument is OUT."""
    if source_option is not None and source is not None and target is None:
        source, target = None, source
    sources = [path for path in (source, source_option) if path is not None]
    targets = [path for path in (target, target_option) if path is not None]
    if len(sources) != 1 or len(targets) != 1:
        raise click.UsageError("give IN and OUT once each, as arguments or as -i and -o")
    return sources[0], targets[0]
