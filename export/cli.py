"""``pmtool export``: from command-line options to a bundle, engines or both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pmtool.choices import Precision
from pmtool.cli.console import narration, stages
from pmtool.cli.options import debug_option
from pmtool.cli.types import PATH, PRECISION, FiniteRange
from pmtool.export.profiles import LEAST_WINDOWS
from pmtool.system.extras import require

PACKAGES = ("torch", "onnx", "onnxscript", "safetensors", "onnxruntime")


@click.command()
@click.option("--checkpoint", type=PATH, help="Training checkpoint to export.")
@click.option("--out", "folder", type=PATH, help="Folder for the model bundle.")
@click.option("--name", help="Name of the model.  [default: the name of the folder]")
@click.option(
    "--trained-on",
    help="Description of the training data.  [default: the number of scans in the run]",
)
@click.option("--licence", default="unknown", show_default=True, help="Licence of the weights.")
@click.option(
    "--spacing",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Shortest and longest distance in mm between a target slice and its neighbours in "
    "training.  [default: those of the run]",
)
@click.option(
    "--thickness",
    type=FiniteRange(0, min_open=True),
    metavar="MM",
    help="Largest thickness of a slice in training.  [default: that of the run]",
)
@click.option(
    "--tensorrt", is_flag=True, help="Build TensorRT engines for the GPU of this machine."
)
@click.option(
    "--model", type=PATH, help="Model bundle to build engines for.  [default: the built-in one]"
)
@click.option(
    "--precision",
    type=PRECISION,
    default="bfloat16",
    show_default=True,
    help="Precision of the engines' matrix products and convolutions.",
)
@click.option(
    "--max-windows",
    type=click.IntRange(LEAST_WINDOWS),
    help="Largest number of 64-pixel windows an engine takes at once.  [default: that of existing "
    "engines, or 4096]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle in --out.")
@debug_option
def export(
    checkpoint: Path | None,
    folder: Path | None,
    overwrite: bool,
    tensorrt: bool,
    model: Path | None,
    precision: Precision,
    max_windows: int | None,
    **description: Any,
) -> None:
    """Export a model bundle, or build TensorRT engines.

    Makes a bundle from a training checkpoint, or TensorRT engines from a bundle.
    Prints how far every graph differs from PyTorch and every engine from ONNX Runtime; too large a
    difference is an error. Engines work on this machine only; they are cached, and rebuilt when
    the model, the GPU, its driver or TensorRT changes.

    Examples: pmtool export --checkpoint run/checkpoint.pt --out model; pmtool export --tensorrt
    """
    from pmtool.export.commands import check_export, check_tensorrt, export_engines
    from pmtool.export.commands import export as run

    check_export(_given(click.get_current_context()))
    gpu = check_tensorrt(precision) if tensorrt else ""
    if checkpoint is not None and folder is not None:
        require("pmtool export", PACKAGES, "pmtool[cpu,torch]")
        with stages(quiet=False) as tell:
            table = run(checkpoint, folder, overwrite, tell, **description)
        click.echo(table)
    if tensorrt:
        with narration(False, False):
            click.echo(export_engines(model or folder, gpu, precision, max_windows))


def _given(ctx: click.Context) -> set[str]:
    """Names, without dashes, of the options given on the command line."""
    return {
        param.opts[0].lstrip("-")
        for param in ctx.command.params
        if ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    }
