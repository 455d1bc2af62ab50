"""``pmtool bench``: from command-line options to a benchmark and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pmtool.cli.console import stages
from pmtool.cli.options import (
    debug_option,
    device_option,
    memory_option,
    model_option,
    quiet_option,
    seed_option,
    threads_option,
    window_option,
)
from pmtool.cli.types import BACKEND, PATH, PRECISION
from pmtool.system.extras import require


@click.command()
@click.option("--json", "json_", type=PATH, help="Write the figures to this file as JSON.")
@click.option("--page", type=PATH, help="Write the printed report to this file as Markdown.")
@click.option("--picture", type=PATH, help="Write a plot of the times to this file as PNG.")
@model_option
@device_option
@click.option(
    "--backend",
    "backends",
    type=BACKEND,
    multiple=True,
    help="Engine that runs the model; repeat to compare several.  [default: the first that works]",
)
@click.option(
    "--precision",
    "precisions",
    type=PRECISION,
    multiple=True,
    help="Precision of matrix products; repeat to compare several.  [default: the backend's]",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1),
    multiple=True,
    help="Windows to generate at once on each thread or GPU; repeat to compare several.",
)
@window_option
@threads_option
@memory_option
@seed_option
@click.option(
    "--size",
    type=int,
    default=512,
    show_default=True,
    help="Height and width of the phantom's slices in pixels.",
)
@click.option(
    "--pairs", type=int, default=8, show_default=True, help="Number of slices to generate."
)
@click.option("--input", "source", type=PATH, help="Thin-slice scan to use instead of the phantom.")
@click.option(
    "--passes",
    type=int,
    default=2048,
    show_default=True,
    help="Forward passes of the naive sampler to run: 64 to 4096, in whole rows of 64.",
)
@click.option("--peers", is_flag=True, help="Also time other samplers in PyTorch.")
@click.option(
    "--scaling",
    is_flag=True,
    help="Also time scans of 1 to 150 slice pairs and 128 to 1024 pixels.",
)
@click.option(
    "--budget",
    type=float,
    default=300,
    show_default=True,
    help="Time limit for --scaling in seconds.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@quiet_option
@debug_option
def bench(
    json_: Path | None,
    page: Path | None,
    picture: Path | None,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Benchmark the cached sampler against the naive one.

    Drops every second slice and generates it again on this machine. The time of the naive sampler
    is extrapolated from the forward passes that were run. If several backends, precisions or
    batches are given, the speed-up is that of the first.

    Example: pmtool bench --backend torch --precision float32 --precision bfloat16
    """
    require("pmtool bench", ("torch", "safetensors"), "pmtool[cpu,torch]")
    if picture is not None:
        require("pmtool bench --picture", ("matplotlib",), "pmtool[evaluate]")
    from pmtool.benchmark.options import BenchmarkOptions
    from pmtool.benchmark.outputs import check_outputs, write_outputs
    from pmtool.benchmark.page import page as page_of
    from pmtool.benchmark.run import run_benchmark

    outputs = {"json": json_, "page": page, "picture": picture}
    with stages(quiet) as tell:
        check_outputs(outputs, options["source"], overwrite)
        report = run_benchmark(BenchmarkOptions(**options), tell)
        values = report.to_json()  # once, because it contains the current load
        write_outputs(outputs, report, values)
    click.echo(page_of(values), nl=False)
