"""Options shared by several commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import click

from pmtool.cli import types

Function = Callable[..., Any]
Asked = TypeVar("Asked")

debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the full traceback of an error."
)
"""`pmtool.cli.console.run_command` looks for it in the arguments."""
model_option = click.option(
    "--model", type=types.PATH, help="Folder of the model bundle.  [default: the built-in one]"
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="Device: auto, cpu or cuda[:N]."
)
seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed for the random numbers."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), help="Number of CPU threads to use."
)
memory_option = click.option(
    "--memory",
    metavar="SIZE",
    callback=types.size,
    help="Memory budget of the whole process, such as 4G; excludes GPU memory.",
)
window_option = click.option(
    "--window",
    metavar="N|full",
    callback=types.window,
    help="Window width in pixels, or full for whole slices.  [default: depends on the device]",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show only warnings and errors.")
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show more details.")
series_option = click.option(
    "--series-uid", metavar="UID", help="DICOM series to read if there are several."
)
thickness_option = click.option(
    "--thickness",
    type=types.FiniteRange(0, min_open=True),
    metavar="MM",
    help="Thickness of a slice.  [default: that in DICOM headers, else the slices' distance]",
)
hu_option = click.option(
    "--assume-hu", is_flag=True, help="Accept voxels as HU even if they do not look like it."
)
large_option = click.option(
    "--allow-large", is_flag=True, help="Accept inputs of more than 8 GiB of voxels."
)
external_option = click.option(
    "--external",
    "externals",
    metavar="NAME=FILE",
    callback=types.named_files,
    multiple=True,
    help="Volume with another tool's slices; repeat for every scan, in order.",
)

_SAMPLER = (  # the fields of `SamplerOptions` except its mode, and the model
    seed_option,
    model_option,
    device_option,
    click.option(
        "--backend",
        type=types.BACKEND,
        help="Engine that runs the model.  [default: the first that works]",
    ),
    click.option(
        "--precision",
        type=types.PRECISION,
        help="Precision of matrix products.  [default: the backend's]",
    ),
    window_option,
    click.option(
        "--batch", type=click.IntRange(1), help="Windows to generate at once on each thread or GPU."
    ),
    threads_option,
    memory_option,
)
_READING = (thickness_option, hu_option, large_option)
_RESAMPLING = (
    click.option(
        "--spacing",
        metavar="Z | X Y Z",
        callback=types.spacing,
        help="Target slice spacing in mm; in X Y Z, 0 keeps an axis as it is.",
    ),
    click.option(
        "--grid",
        type=types.GRID,
        default="keep-slices",
        show_default=True,
        help="Placement of the new slices: from the first acquired slice on (keep-slices), or with "
        "the centres (ibsi), corners (corner) or first slices (origin) of both grids aligned.",
    ),
    click.option(
        "--interpolator",
        type=types.INTERPOLATOR,
        show_default="nearest for samples, otherwise linear",
        help="Interpolation of slices that lie between acquired and generated ones.",
    ),
    click.option(
        "--mode",
        type=types.MODE,
        default="sample",
        show_default=True,
        help="Draw each pixel, or take the median or mean of its distribution.",
    ),
    *_SAMPLER,
    *_READING,
    click.option(
        "--allow-uneven",
        is_flag=True,
        help="Accept unevenly spaced slices, at their true positions.",
    ),
)


def taken(kind: type[Asked], options: dict[str, Any]) -> Asked:
    """Build a dataclass from the options that are its fields, removing them from ``options``."""
    names = {field.name for field in fields(kind)} & set(options)  # type: ignore[arg-type]
    return kind(**{name: options.pop(name) for name in names})


def method_options(function: Function) -> Function:
    """Add the options for regenerating slices of thin scans by PixelMiner and other tools."""
    return _with((external_option, *_SAMPLER, series_option, *_READING), function)


def resampling_options(function: Function) -> Function:
    """Add the options for what to generate and how; the command must be a `SpacingCommand`."""
    return _with(_RESAMPLING, function)


def _with(options: Sequence[Callable[[Function], Function]], function: Function) -> Function:
    for option in reversed(options):
        function = option(function)
    return function
