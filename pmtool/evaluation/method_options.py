"""The choice of methods that regenerate the dropped slices of scans."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from pmtool.errors import UsageError
from pmtool.evaluation.methods import (
    CLASSICAL,
    PIXELMINER,
    Classical,
    External,
    Method,
    Sampled,
    load_external,
)
from pmtool.evaluation.scan import ThinScan
from pmtool.evaluation.scoring import REFERENCE
from pmtool.images.reading import DEFAULT, ReadingOptions
from pmtool.models.bundle import Bundle
from pmtool.pixels.mixture import Mode
from pmtool.resampling.report import spacing_text, thickness_text
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.sampler import Sampler
from pmtool.system.checks import check_choice

METHODS = (*CLASSICAL, PIXELMINER)


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """Options for reading thin scans and for regenerating their dropped slices.

    Attributes
    ----------
    methods
        Names of methods from `METHODS`.
    externals
        Names and files of other tools' slices: for every name, one file per scan, in order.
    modes
        Modes of PixelMiner; each one is a method.
    model
        Model of PixelMiner: a bundle's folder, or None for the default model.
    reading
        Options for reading the scans and other tools' slices.
    sampler
        Options of PixelMiner's sampler, apart from the mode.
    """

    methods: tuple[str, ...] = METHODS
    externals: tuple[tuple[str, Path], ...] = ()
    modes: tuple[Mode, ...] = ("sample",)
    model: str | Path | None = None
    reading: ReadingOptions = DEFAULT
    sampler: SamplerOptions = field(default_factory=SamplerOptions)

    def __post_init__(self) -> None:
        for name in self.methods:
            check_choice("method", name, METHODS)
        if PIXELMINER not in self.methods and self.modes != ("sample",):
            raise UsageError(f"--mode is for {PIXELMINER}; add it to --methods or leave --mode out")


def check_distinct(scans: Sequence[ThinScan]) -> None:
    """Raise `UsageError` if two scans have the same name."""
    seen: dict[str, ThinScan] = {}
    for scan in scans:
        other = seen.setdefault(scan.name, scan)
        if other is not scan:
            raise UsageError(
                f"{other.volume.name} and {scan.volume.name} have the same file name; give each "
                "scan once, or rename one"
            )


def chosen_methods(
    scans: Sequence[ThinScan],
    cache: Path,
    options: MethodOptions,
    sampler: Sampler | None = None,
) -> list[Method]:
    """Return the requested methods, PixelMiner last as in the paper's tables.

    Parameters
    ----------
    scans
        The scans.
    cache
        Folder where PixelMiner keeps its slices.
    options
        Options with the choice of methods.
    sampler
        A sampler with the model and the options, in any mode; None to load it.

    Raises
    ------
    PmtoolError
        If no method is chosen, or one cannot be loaded.

    Warns
    -----
    UserWarning
        If the model was not trained for the distance or the thickness of the slices.
    """
    methods: list[Method] = [Classical(x) for x in CLASSICAL if x in options.methods]
    methods += _externals(scans, options)
    if PIXELMINER in options.methods:
        sampler = sampler or Sampler(Bundle.load(options.model), options.sampler)
        manifest = sampler.bundle.manifest
        for scan in scans:
            texts = (
                spacing_text(scan.grid, manifest.spacing_mm),
                thickness_text(scan.volume, manifest.thickness_mm),
            )
            for text in filter(None, texts):
                warnings.warn(f"{scan.name}: {text}", stacklevel=2)
        for mode in dict.fromkeys(options.modes):
            methods.append(Sampled(_mode_name(mode), sampler.in_mode(mode), cache))
    if not methods:
        raise UsageError("no method is left to evaluate; give --methods or --external")
    return methods


def _mode_name(mode: Mode) -> str:
    return PIXELMINER if mode == "sample" else f"{PIXELMINER}-{mode}"


def _externals(scans: Sequence[ThinScan], options: MethodOptions) -> list[Method]:
    files: dict[str, list[Path]] = {}
    for name, path in options.externals:
        files.setdefault(name, []).append(path)
    found: list[Method] = []
    for name, paths in files.items():
        if name in (*METHODS, *map(_mode_name, get_args(Mode)), REFERENCE):
            raise UsageError(f"{name} is a name of pmtool's own; give the external method another")
        if len(paths) != len(scans):
            raise UsageError(f"{len(scans)} scans need as many files of {name}, not {len(paths)}")
        pairs = zip(scans, paths, strict=True)
        volumes = {s.name: load_external(p, s.volume, options.reading) for s, p in pairs}
        found.append(External(name, volumes))
    return found
