"""Parsing of less common command-line values: types and callbacks for click options."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal, get_args

import click

from pmtool.choices import (
    BACKENDS,
    FORMATS,
    GRIDS,
    INTERPOLATORS,
    MaskInterpolation,
    Mode,
    Precision,
)


class _Path(click.Path):
    """A path; an empty one, as from an unset variable, is refused and not read as ``.``.

    Whether it may be read is left to the command: click takes that for an error of usage, and
    outputs need not be readable.
    """

    def __init__(self, path_type: type | None = None) -> None:
        super().__init__(readable=False, path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("a path is empty", param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A range of finite numbers: click lets NaN pass, and infinity if there is no upper limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


PATH = _Path(Path)
SLASHED = _Path()
"""A path kept as a string, because a trailing slash means a folder."""
FORMAT = click.Choice([*FORMATS, "dicom"])
GRID = click.Choice(GRIDS)
INTERPOLATOR = click.Choice(INTERPOLATORS)
MASK_INTERPOLATION = click.Choice(get_args(MaskInterpolation))
PRECISION = click.Choice(get_args(Precision))
MODE = click.Choice(get_args(Mode))
BACKEND = click.Choice(BACKENDS)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Parse a size such as ``4G`` or ``512M`` into bytes."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)([KMGT]?)(?:i?B)?", value, re.IGNORECASE)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size like 4G", ctx, param)
    return int(float(match[1]) * _UNITS[match[2].upper()])


def window(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> int | Literal["full"] | None:
    """Parse a window width: a number of pixels, or ``full``."""
    if value is None:
        return None
    if value == "full":
        return "full"
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither pixels nor 'full'", ctx, param)
    return int(value)


def names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Parse a comma-separated subset of the default's names, without duplicates."""
    default_names = str(param.default).split(",")
    requested = tuple(name.strip() for name in value.split(",") if name.strip())
    unknown = [name for name in requested if name not in default_names]
    if unknown:
        raise click.BadParameter(
            f"{unknown[0]!r} is none of {', '.join(default_names)}", ctx, param
        )
    return tuple(dict.fromkeys(requested))


def named_files(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, Path], ...]:
    """Parse pairs of names and files given as ``NAME=FILE``."""
    pairs = [value.partition("=") for value in values]
    for value, (name, _, file) in zip(values, pairs, strict=True):
        if not name or not file or "/" in name:
            raise click.BadParameter(f"{value!r} is not of the form NAME=FILE", ctx, param)
    return tuple((name, Path(file)) for name, _, file in pairs)


def spacing(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Parse one number or several, separated by commas."""
    if value is None:
        return None
    numbers = [to_number(part) for part in value.split(",")]
    valid = tuple(number for number in numbers if number is not None)
    if len(valid) != len(numbers):
        raise click.BadParameter(f"{value!r} is neither one number nor three", ctx, param)
    return valid


class SpacingCommand(click.Command):
    """A command whose ``--spacing`` takes one number or three, as in ``--spacing 0 0 1.25``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join three numbers after ``--spacing`` with commas, unless the last two are IN and OUT.

        They are if nothing else can be, and the first number is a spacing by itself; IN must then
        exist.
        """
        parted = (arg.split("=", 1) if arg.startswith("--spacing=") else [arg] for arg in args)
        args = [part for parts in parted for part in parts]
        start = args.index("--spacing") + 1 if "--spacing" in args else len(args)
        numbers = [to_number(arg) for arg in args[start : start + 3]]
        if len(numbers) == 3 and None not in numbers:
            joined = [*args[:start], ",".join(args[start : start + 3]), *args[start + 3 :]]
            if numbers[0] == 0 or self._names_paths(joined):
                args = joined
            elif not ctx.resilient_parsing and not Path(args[start + 1]).exists():
                given = " ".join(args[start : start + 3])
                raise click.UsageError(
                    f"--spacing {given} is followed by no paths; give them after the spacing"
                )
        return super().parse_args(ctx, args)

    def _names_paths(self, args: list[str]) -> bool:
        """Whether IN or OUT is among the arguments, which may be incomplete or wrong."""
        probe = click.Context(self, resilient_parsing=True)
        super().parse_args(probe, list(args))
        paths = (x for x in self.params if isinstance(x, click.Argument) or x.type is SLASHED)
        return any(probe.params[str(path.name)] for path in paths)


def to_number(text: str) -> float | None:
    """Convert text to a number; None if it is not one."""
    try:
        return float(text)
    except ValueError:
        return None
