"""The work of `pmtool evaluate`: checks, evaluation, files, and a text to print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pmtool.errors import UsageError
from pmtool.evaluation.folder import CACHE, check_report_folder
from pmtool.evaluation.method_options import MethodOptions, chosen_methods
from pmtool.evaluation.methods import described
from pmtool.evaluation.page import write_report
from pmtool.evaluation.provenance import provenance
from pmtool.evaluation.report import Report
from pmtool.evaluation.run import choose_slices, run_evaluation
from pmtool.evaluation.scan import ThinScan, load_scans
from pmtool.evaluation.store import Store
from pmtool.sampling.sampler import Sampler
from pmtool.system.limits import cpu_count
from pmtool.system.outputs import make_folder
from pmtool.system.stages import Tell


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(MethodOptions):
    """Options of `pmtool evaluate`.

    Attributes
    ----------
    masks
        Masks with a custom region for every scan, in the order of the scans; empty for the lungs.
    slices
        Number of slices to score in each scan, drawn at random with PixelMiner's seed; None for
        all.
    workers
        Number of scoring processes; None for one per CPU.
    """

    masks: tuple[Path, ...] = ()
    slices: int | None = None
    workers: int | None = None


def evaluate(
    paths: Sequence[Path],
    folder: Path,
    options: EvaluationOptions,
    tell: Tell,
    sampler: Sampler | None = None,
) -> str:
    """Evaluate methods on scans, write the report's files into a folder and return its text.

    Parameters
    ----------
    paths
        Files or folders of the scans.
    folder
        Folder of the report.
    options
        Options of the evaluation.
    tell
        Called with the current stage and its progress.
    sampler
        See `chosen_methods`.

    Raises
    ------
    PmtoolError
        One of the errors of `pmtool.errors`. All but those of methods that generate slices are
        raised before the work begins.
    """
    check_report_folder(folder)
    tell("reading", 0)
    scans = _scans(paths, options)
    methods = chosen_methods(scans, folder / CACHE, options, sampler)
    make_folder(folder / CACHE)
    chosen = [(scan, choose_slices(scan, options.slices, options.sampler.seed)) for scan in scans]
    workers = options.workers or cpu_count()
    results, cases = run_evaluation(chosen, methods, Store(folder / CACHE), workers, tell)
    tell("report", 0)
    descriptions = [described(method, scan) for scan in scans for method in methods]
    report = Report(
        results, {**provenance(cases), "seed": options.sampler.seed, "methods": descriptions}
    )
    write_report(report, cases, folder)
    return report.to_text()


def _scans(paths: Sequence[Path], options: EvaluationOptions) -> list[ThinScan]:
    masks = options.masks
    if masks and len(masks) != len(paths):
        raise UsageError(
            f"scans: {len(paths)}, masks: {len(masks)}; give one for every scan, or none"
        )
    return load_scans(paths, masks, options.reading)
