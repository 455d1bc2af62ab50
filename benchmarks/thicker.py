"""Make a thick-slice scan from a thin-slice one by averaging adjacent slices, as a scanner does.

    python benchmarks/thicker.py thin.nrrd thick.nrrd --slices 4 --every 2

From a scan with slices 1.25 mm apart, this makes one with slices 5 mm thick and 2.5 mm apart.
`pmtool evaluate --thickness 5` drops every second slice, and the remaining ones touch: 5 mm thick
and 5 mm apart, as is usual.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
import SimpleITK as sitk

from pmtool.cli.console import run_command
from pmtool.cli.types import PATH
from pmtool.errors import GeometryError, UsageError
from pmtool.images.image_file import write_image
from pmtool.images.names import check_format
from pmtool.loading import load_ct
from pmtool.system.outputs import check_no_input, check_output


@click.command()
@click.argument("thin", type=PATH)
@click.argument("out", type=PATH)
@click.option("--slices", type=click.IntRange(1), required=True, help="Slices in a thick one.")
@click.option("--every", type=click.IntRange(1), required=True, help="Distance of thick slices.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def main(thin: Path, out: Path, slices: int, every: int, overwrite: bool) -> None:
    """Write the scan THIN with thick slices to OUT."""
    check_format(out)
    check_output(out, overwrite)
    check_no_input(out, [thin])
    volume = load_ct(thin)
    if volume.axis != 2:
        raise GeometryError(f"{thin} has slices along axis {volume.axis}, not the last: turn it")
    if slices > len(volume.slices):
        raise UsageError(f"{thin} has only {len(volume.slices)} slices: give fewer --slices")
    write_image(thicker(volume.image, slices, every), out)


def thicker(image: sitk.Image, slices: int, every: int) -> sitk.Image:
    """Average ``slices`` adjacent slices, along the last axis, around every ``every``-th place."""
    count = image.GetSize()[2] - slices + 1
    shifted = [image[:, :, first : first + count : every] for first in range(slices)]
    mean = np.mean([sitk.GetArrayViewFromImage(part) for part in shifted], axis=0)
    thick = sitk.GetImageFromArray(np.rint(mean).astype(np.int16))
    thick.CopyInformation(shifted[0])
    thick.SetOrigin(image.TransformContinuousIndexToPhysicalPoint((0, 0, (slices - 1) / 2)))
    return thick


if __name__ == "__main__":
    sys.exit(run_command(main))
