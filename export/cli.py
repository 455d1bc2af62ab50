"""``pmtool export``: options to a bundle, to engines or to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pmtool.cli.console import narration, stages
from pmtool.cli.options import debug_option
from pmtool.cli.types import PATH
from pmtool.export.profiles import LEAST_WINDOWS


@click.command()
@click.option("--checkpoint", type=PATH, help="Of pmtool's training, to make a bundle of.")
@click.option("--out", "folder", type=PATH, help="Folder of the bundle.")
@click.option("--name", help="Of the model.  [default: the folder's]")
@click.option("--trained-on", help="The data.  [default: the number of the run's scans]")
@click.option("--licence", default="unknown", show_default=True, help="Of the weights.")
@click.option(
    "--spacing",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Of a new slice to its neighbours in training, mm.  [default: the run's]",
)
@click.option("--tensorrt", is_flag=True, help="Build engines for the GPU of this machine.")
@click.option("--model", type=PATH, help="Bundle to build them of.  [default: the built-in one]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="bfloat16",
    show_default=True,
    help="Of the engines' matrix products and convolutions.",
)
@click.option(
    "--max-windows",
    type=click.IntRange(LEAST_WINDOWS),
    help="Of 64 pixels, that the engines take at once.  [default: as those built before, or 4096]",
)
@click.option("--overwrite", is_flag=True, help="Replace a bundle in the folder.")
@debug_option
def export(
    checkpoint: Path | None,
    folder: Path | None,
    overwrite: bool,
    tensorrt: bool,
    model: Path | None,
    precision: Any,
    max_windows: int | None,
    **description: Any,
) -> None:
    """Make a model bundle of a training checkpoint, or TensorRT engines of a bundle.

    Prints how far every graph differs from PyTorch, and every engine from ONNX Runtime; a
    difference that matters is an error. Engines are for this machine alone; they are kept, and
    built again when the model, the GPU, its driver or TensorRT change.

    Examples: pmtool export --checkpoint run/checkpoint.pt --out model; pmtool export --tensorrt
    """
    from pmtool.export.commands import check_export, check_tensorrt, export_engines
    from pmtool.export.commands import export as run

    check_export(_given(click.get_current_context()))
    gpu = check_tensorrt(precision) if tensorrt else ""
    if checkpoint is not None and folder is not None:
        with stages(quiet=False) as tell:
            told = run(checkpoint, folder, overwrite, tell, **description)
        click.echo(told)
    if tensorrt:
        with narration(False, False):
            click.echo(export_engines(model or folder, gpu, precision, max_windows))


def _given(ctx: click.Context) -> set[str]:
    """Names of the options that stand on the command line, without dashes."""
    return {
        param.opts[0].lstrip("-")
        for param in ctx.command.params
        if ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    }
