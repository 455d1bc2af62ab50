"""What `pmtool evaluate` does: checks, the work, files, and a text to print."""

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
from pmtool.evaluation.page import FILES, write_report
from pmtool.evaluation.provenance import provenance
from pmtool.evaluation.report import Report
from pmtool.evaluation.run import choose_slices, run_evaluation
from pmtool.evaluation.scan import Scan, load_scan
from pmtool.evaluation.scoring import REFERENCE
from pmtool.evaluation.store import Store
from pmtool.models.bundle import Bundle
from pmtool.pixels.mixture import Mode
from pmtool.sampling.options import SamplerOptions
from pmtool.sampling.sampler import Sampler
from pmtool.system.extras import require
from pmtool.system.files import check_report, make_folder
from pmtool.system.limits import processors
from pmtool.system.stages import Tell

METHODS = (*CLASSICAL, PIXELMINER)
PACKAGES = ("cv2", "jinja2", "matplotlib", "scipy", "skimage")
EXTRAS = "pmtool[cpu,evaluate]"
CACHE = "cache"
"""Folder within a report of scores and of generated slices."""


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


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(MethodOptions):
    """What `pmtool evaluate` may be asked.

    Attributes
    ----------
    masks
        An own region for every scan, in their order, or none.
    slices
        To score of each scan, drawn at random by PixelMiner's seed; all where it is None.
    workers
        Processes that score; one for every processor where it is None.
    """

    masks: tuple[Path, ...] = ()
    slices: int | None = None
    workers: int | None = None


def evaluate(paths: Sequence[Path], folder: Path, options: EvaluationOptions, tell: Tell) -> str:
    """Evaluate methods on scans, write the report's files into a folder and return its text.

    Raises
    ------
    PmtoolError
        One of the errors of `pmtool.errors`; all but that of a method at work before the work.
    """
    require("pmtool evaluate", PACKAGES, EXTRAS)
    check_folder(folder)
    tell("reading", 0)
    scans = _scans(paths, options)
    methods = chosen_methods(scans, folder / CACHE, options)
    make_folder(folder / CACHE)
    chosen = [(scan, choose_slices(scan, options.slices, options.sampler.seed)) for scan in scans]
    workers = options.workers or processors()
    results, cases = run_evaluation(chosen, methods, Store(folder / CACHE), workers, tell)
    tell("report", 0)
    told = [{"name": x.name, **x.identity(scan)} for scan in scans for x in methods]
    report = Report(results, {**provenance(cases), "seed": options.sampler.seed, "methods": told})
    write_report(report, cases, folder)
    return report.to_text()


def check_folder(folder: Path) -> None:
    """Raise `OutputError` for a folder that holds anything but an earlier report."""
    check_report(folder, FILES, {CACHE})


def _scans(paths: Sequence[Path], options: EvaluationOptions) -> list[Scan]:
    masks = options.masks or (None,) * len(paths)
    if len(masks) != len(paths):
        raise UsageError(f"{len(paths)} scans need as many masks or none, not {len(masks)}")
    given = zip(paths, masks, strict=True)
    scans = [load_scan(*pair, options.assume_hu, options.series_uid) for pair in given]
    check_distinct(scans)
    return scans


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
