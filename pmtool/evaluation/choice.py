"""Which methods make the dropped slices of scans again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from pmtool.evaluation.scan import Scan
from pmtool.evaluation.scoring import REFERENCE
from pmtool.models.bundle import Bundle
from pmtool.pixels.mixture import Mode
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.sampler import Sampler

METHODS = (*CLASSICAL, PIXELMINER)


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """Which slices of thin scans are made again, and by what.

    Attributes
    ----------
    methods
        Some of `METHODS`.
    externals
        Names and files of other tools' slices: for every name a file for every scan, in order.
    modes
        Of PixelMiner; each one is a method.
    model
        Of PixelMiner: a bundle's folder, the default model where it is None.
    sampler
        Of PixelMiner, its mode aside.
    assume_hu
        Take voxels for HU whose range says otherwise.
    series_uid
        Which series of several, in DICOM.
    """

    methods: tuple[str, ...] = METHODS
    externals: tuple[tuple[str, Path], ...] = ()
    modes: tuple[Mode, ...] = ("sample",)
    model: str | Path | None = None
    sampler: SamplerOptions = field(default_factory=SamplerOptions)
    assume_hu: bool = False
    series_uid: str | None = None


def check_distinct(scans: Sequence[Scan]) -> None:
    """Raise `UsageError` for two scans of the same name."""
    if len({scan.name for scan in scans}) < len(scans):
        raise UsageError("two scans have the same file name; rename one of them")


def chosen_methods(scans: Sequence[Scan], cache: Path, options: MethodOptions) -> list[Method]:
    """Those asked for, PixelMiner last as in the paper's tables.

    Parameters
    ----------
    cache
        Where PixelMiner keeps its slices.
    """
    methods: list[Method] = [Classical(x) for x in CLASSICAL if x in options.methods]
    methods += _externals(scans, options.externals)
    if PIXELMINER in options.methods:
        bundle = Bundle.load(options.model)
        for mode in dict.fromkeys(options.modes):
            sampler = Sampler(bundle, replace(options.sampler, mode=mode))
            methods.append(Sampled(_mode_name(mode), sampler, cache))
    if not methods:
        raise UsageError("no method is left to evaluate; give --methods or --external")
    return methods


def _mode_name(mode: Mode) -> str:
    return PIXELMINER if mode == "sample" else f"{PIXELMINER}-{mode}"


def _externals(scans: Sequence[Scan], externals: Sequence[tuple[str, Path]]) -> list[Method]:
    files: dict[str, list[Path]] = {}
    for name, path in externals:
        files.setdefault(name, []).append(path)
    found: list[Method] = []
    for name, paths in files.items():
        if name in (*METHODS, *map(_mode_name, get_args(Mode)), REFERENCE):
            raise UsageError(f"{name} is a name of pmtool's own; give the external method another")
        if len(paths) != len(scans):
            raise UsageError(f"{len(scans)} scans need as many files of {name}, not {len(paths)}")
        pairs = zip(scans, paths, strict=True)
        found.append(External(name, {s.name: load_external(p, s.volume) for s, p in pairs}))
    return found
