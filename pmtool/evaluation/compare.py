"""The work of `pmtool compare`: two volumes are scored against a third."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pmtool.errors import UsageError
from pmtool.evaluation.folder import check_report_folder
from pmtool.evaluation.methods import described, external
from pmtool.evaluation.page import write_report
from pmtool.evaluation.provenance import provenance
from pmtool.evaluation.report import Report
from pmtool.evaluation.run import run_evaluation
from pmtool.evaluation.scan import ThinScan, load_scans
from pmtool.evaluation.scoring import REFERENCE
from pmtool.evaluation.store import Store
from pmtool.images.names import image_stem
from pmtool.images.reading import ReadingOptions
from pmtool.images.volume import Volume
from pmtool.system.files import resolved
from pmtool.system.limits import cpu_count
from pmtool.system.outputs import make_folder
from pmtool.system.stages import Tell


def compare(
    paths: Sequence[Path],
    reference: Path,
    folder: Path | None,
    tell: Tell,
    *,
    mask: Path | None,
    workers: int | None,
    reading: ReadingOptions,
) -> str:
    """Score volumes against a reference, write a report if a folder is given, and return its text.

    Slices in which all volumes equal the reference, such as acquired ones, are left out.

    Raises
    ------
    PmtoolError
        One of the errors of `pmtool.errors`.
    """
    if len(set(map(resolved, paths))) < len(paths):
        raise UsageError(f"{paths[0]} is given twice; name two volumes to compare")
    if folder is not None:
        check_report_folder(folder)
    tell("reading", 0)
    (scan,) = load_scans([reference], [mask], reading.without_advice("series_uid"))
    methods = [
        external(name, [scan], [path], reading)
        for name, path in zip(_names(paths), paths, strict=True)
    ]
    indices = _differing(scan, [method.volumes[scan.name] for method in methods])
    with tempfile.TemporaryDirectory() as scores:
        chosen, store = [(scan, indices)], Store(Path(scores))
        results, cases = run_evaluation(chosen, methods, store, workers or cpu_count(), tell)
    descriptions = [described(method, scan) for method in methods]
    report = Report(results, {**provenance(cases), "methods": descriptions})
    if folder is not None:
        make_folder(folder)
        write_report(report, cases, folder)
    return report.to_text()


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of the files without suffix, or else their paths, all distinct and not `REFERENCE`."""
    for names in ([image_stem(path) for path in paths], [str(path) for path in paths]):
        if len({*names, REFERENCE}) > len(names):
            return names
    return [str(path.absolute()) for path in paths]


def _differing(scan: ThinScan, volumes: Sequence[Volume]) -> list[int]:
    """Inner slices in which a volume differs from the scan; all inner slices if none differs."""
    between = range(1, min(len(volume.slices) for volume in [scan.volume, *volumes]) - 1)
    differing = [
        index
        for index in between
        if not all(np.array_equal(v.slices[index], scan.volume.slices[index]) for v in volumes)
    ]
    return differing or list(between)
