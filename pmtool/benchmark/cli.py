"""``pmtool bench``: options to a benchmark and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pmtool.cli.console import narration, stages
from pmtool.cli.options import debug_option, device_option, model_option, window_option
from pmtool.cli.types import PATH


@click.command()
@click.option("--json", "json_", type=PATH, help="Write the figures as JSON.")
@click.option("--page", type=PATH, help="Write what is printed, in Markdown.")
@click.option("--picture", type=PATH, help="Write a PNG of the times.")
@model_option
@device_option
@click.option(
    "--backend",
    "backends",
    metavar="NAME",
    multiple=True,
    help="torch, tensorrt, onnxruntime-cuda or onnxruntime-cpu; repeat it to compare.  [default: "
    "the first that works]",
)
@click.option(
    "--precision",
    "precisions",
    metavar="TYPE",
    multiple=True,
    help="float32, float16 or bfloat16, of the products; repeat it to compare.  [default: the "
    "backend's]",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1),
    multiple=True,
    help="Windows at once; repeat it to compare.",
)
@window_option
@click.option("--threads", type=click.IntRange(1), help="Of the processor.")
@click.option("--size", type=int, default=512, show_default=True, help="Pixels of the phantom.")
@click.option("--pairs", type=int, default=8, show_default=True, help="Slices to generate.")
@click.option("--input", "source", type=PATH, help="A thin scan to use instead of the phantom.")
@click.option(
    "--passes",
    type=int,
    default=2048,
    show_default=True,
    help="Of the naive sampler that are really run, 64 to 4096, in whole rows of 64.",
)
@click.option("--peers", is_flag=True, help="Time other samplers in PyTorch too.")
@click.option("--scaling", is_flag=True, help="Time scans of 1 to 150 pairs, 128 to 1024 pixels.")
@click.option("--budget", type=float, default=300, show_default=True, help="Of --scaling, seconds.")
@click.option("--overwrite", is_flag=True, help="Replace files.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def bench(
    json_: Path | None,
    page: Path | None,
    picture: Path | None,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure the cached sampler against the naive one, on this machine.

    Drops every second slice and generates it again. The naive sampler's time is extrapolated from
    passes that were really run. Of several backends, precisions and batches the first is the one
    that the speed-up is told of.

    Example: pmtool bench --backend torch --precision float32 --precision bfloat16
    """
    from pmtool.benchmark.commands import bench as run

    outputs = {"json": json_, "page": page, "picture": picture}
    with narration(quiet, False), stages(quiet) as tell:
        told = run(outputs, overwrite, tell, **options)
    click.echo(told, nl=False)
