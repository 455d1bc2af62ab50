"""``pmtool phantom``."""

from __future__ import annotations

from pathlib import Path

import click

from pmtool.cli.options import debug_option
from pmtool.cli.types import PATH, FiniteRange


@click.command()
@click.argument("target", metavar="OUT", type=PATH)
@click.option(
    "--slices",
    type=click.IntRange(2, 10_000),
    default=40,
    show_default=True,
    help="Number of slices.",
)
@click.option(
    "--size",
    type=click.IntRange(16, 4096),
    default=512,
    show_default=True,
    help="Height and width of the slices in pixels.",
)
@click.option(
    "--spacing",
    type=FiniteRange(0.1, 100),
    default=2.5,
    show_default=True,
    help="Slice spacing in mm.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed for the vessels and the noise."
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@debug_option
def phantom(
    target: Path, slices: int, size: int, spacing: float, seed: int, overwrite: bool
) -> None:
    """Write a synthetic chest CT to OUT for trying out pmtool."""
    from pmtool.images.image_file import write_image
    from pmtool.images.names import check_format
    from pmtool.phantom.chest import FIELD_MM, chest_phantom
    from pmtool.system.outputs import check_output

    check_format(target)
    check_output(target, overwrite)
    pixel = FIELD_MM / size
    write_image(chest_phantom(size, slices, (pixel, pixel, spacing), seed), target)
