"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import click

from pmtool.cli import types

Function = Callable[..., Any]
Asked = TypeVar("Asked")

debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
)
"""`pmtool.cli.console.run_command` looks for it."""
model_option = click.option(
    "--model", type=types.PATH, help="Folder of a model bundle.  [default: the built-in one]"
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu or cuda[:N]."
)
window_option = click.option(
    "--window",
    metavar="N|full",
    callback=types.window,
    help="Width of the windows.  [default: the device's]",
)
series_option = click.option(
    "--series-uid", metavar="UID", help="Which series of several, in DICOM."
)
hu_option = click.option(
    "--assume-hu", is_flag=True, help="Take voxels for HU that do not look like it."
)
external_option = click.option(
    "--external",
    "externals",
    metavar="NAME=FILE",
    callback=types.named_files,
    multiple=True,
    help="Another tool's slices; once for every scan, in order.",
)

_SAMPLER = (  # the fields of `SamplerOptions` but its mode, and a model
    click.option("--seed", type=int, default=0, show_default=True, help="Of the random numbers."),
    model_option,
    device_option,
    click.option(
        "--backend",
        metavar="NAME",
        help="torch, tensorrt, onnxruntime-cuda or onnxruntime-cpu.  "
        "[default: the first that works]",
    ),
    click.option(
        "--precision",
        metavar="TYPE",
        help="float32, float16 or bfloat16, of the products.  [default: the backend's]",
    ),
    window_option,
    click.option("--batch", type=int, help="Windows at once."),
    click.option("--threads", type=int, help="Of the processor."),
    click.option(
        "--memory",
        metavar="SIZE",
        callback=types.size,
        help="Budget of the whole process, like 4G; not of a GPU's memory.",
    ),
)
_RESAMPLING = (
    click.option(
        "--spacing",
        metavar="Z | X Y Z",
        callback=types.spacing,
        help="Between slices, mm; of X Y Z, 0 keeps.",
    ),
    click.option(
        "--grid",
        type=click.Choice(["keep-slices", "ibsi", "corner", "origin"]),
        default="keep-slices",
        show_default=True,
        help="Where the slices lie: on the acquired ones; or with the grids' centres, corners or "
        "first slices aligned.",
    ),
    click.option(
        "--interpolator",
        type=click.Choice(["linear", "bspline"]),
        default="linear",
        show_default=True,
        help="For slices that lie between generated ones.",
    ),
    click.option(
        "--mode",
        type=types.MODE,
        default="sample",
        show_default=True,
        help="Draw pixels, or take their distribution's median or mean.",
    ),
    *_SAMPLER,
    hu_option,
    click.option("--allow-large", is_flag=True, help="Read more than 8 GiB of voxels."),
    click.option(
        "--allow-uneven", is_flag=True, help="Take slices at uneven distances as they lie."
    ),
)


def taken(kind: type[Asked], options: dict[str, Any]) -> Asked:
    """An instance of a dataclass, of those options that are its fields; they are taken out."""
    names = {field.name for field in fields(kind)} & set(options)  # type: ignore[arg-type]
    return kind(**{name: options.pop(name) for name in names})


def method_options(function: Function) -> Function:
    """Add those on methods that make slices of thin scans again: PixelMiner and other tools."""
    return _with((external_option, *_SAMPLER, series_option, hu_option), function)


def resampling_options(function: Function) -> Function:
    """Add the options on what to generate and by which means; the command is a `SpacingCommand`."""
    return _with(_RESAMPLING, function)


def _with(options: Sequence[Callable[[Function], Function]], function: Function) -> Function:
    for option in reversed(options):
        function = option(function)
    return function
