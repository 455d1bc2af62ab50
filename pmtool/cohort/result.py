"""The result of a case, and the summary of all cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pmtool.errors import BatchError
from pmtool.system.files import write_bytes, write_json
from pmtool.system.tables import csv_text
from pmtool.system.versions import own_version

if TYPE_CHECKING:
    from pmtool.cohort.cases import Case

Status = Literal["done", "present", "failed", "open"]
FILES = JSON, CSV = "summary.json", "summary.csv"


@dataclass(frozen=True)
class Result:
    """The result of a case.

    Attributes
    ----------
    name
        Name of the case.
    path, series_uid
        Path of the scan and, if one was chosen, the UID of its DICOM series.
    status
        ``done``; ``present`` if the outputs existed already, perhaps written by a worker that died
        afterwards; ``failed``; or ``open`` if the case is not finished.
    exit_code
        Exit code that ``pmtool resample`` would have returned.
    error, warnings
        Message of the error and of the warnings.
    output
        Path of the resampled volume.
    generated
        Number of slices generated in this run.
    seconds
        Seconds that workers spent on the case.
    worker
        Host and process that finished the case.
    evaluation
        Measures by method.
    """

    name: str
    path: str
    series_uid: str | None
    status: Status
    exit_code: int = 0
    error: str | None = None
    warnings: tuple[str, ...] = ()
    output: str | None = None
    generated: int = 0
    seconds: float = 0.0
    worker: str | None = None
    evaluation: dict[str, dict[str, float | None]] | None = None

    @classmethod
    def of(cls, case: Case, status: Status) -> Result:
        """Create a result from the name, path and series UID of a case."""
        return cls(case.name, str(case.path), case.series_uid, status)


def conclusion(results: Sequence[Result], folder: Path) -> str:
    """Summarise all cases in a sentence; raises `BatchError` if some failed or are open."""
    counts = Counter(result.status for result in results)
    lacking = counts["failed"] + counts["open"]
    if lacking:
        raise BatchError(
            f"{lacking} of {len(results)} cases are not done; {folder / CSV} tells which and why"
        )
    present = f"{counts['present']} of them before" if counts["present"] else "all of them now"
    warned = sum(bool(result.warnings) for result in results)
    warnings = f", {warned} with warnings" if warned else ""
    return f"cases done: {len(results)}, {present}{warnings}; see {folder / CSV}"


def summary_files(folder: Path) -> tuple[Path, Path]:
    """Paths of the summaries in a cohort's folder, as JSON and as CSV."""
    return folder / JSON, folder / CSV


def write_summary(results: Sequence[Result], request: dict[str, Any], folder: Path) -> None:
    """Write a JSON with all cases and a CSV with one row per case; raises `OutputError`.

    Parameters
    ----------
    results
        Results of the cases.
    request
        The request as plain JSON values.
    folder
        Folder of the outputs.
    """
    counts = Counter(result.status for result in results)
    content = {
        "pmtool": own_version(),
        "request": request,
        "counts": dict(sorted(counts.items())),
        "generated": sum(result.generated for result in results),
        "cases": [asdict(result) for result in results],
    }
    whole, table = summary_files(folder)
    write_json(content, whole)
    write_bytes(_table(results).encode(errors="backslashreplace"), table)


def _table(results: Sequence[Result]) -> str:
    plain = [field.name for field in fields(Result) if field.name != "evaluation"]
    rows = [
        {**{name: _cell(getattr(result, name)) for name in plain}, **_measures(result)}
        for result in results
    ]
    columns = list(dict.fromkeys([*plain, *(name for row in rows for name in row)]))
    return csv_text([columns, *([row.get(name) for name in columns] for row in rows)])


def _cell(value: Any) -> Any:
    return "; ".join(value) if isinstance(value, tuple) else value


def _measures(result: Result) -> dict[str, float | None]:
    methods = result.evaluation or {}
    return {
        f"{m} {key}": value for m, measures in methods.items() for key, value in measures.items()
    }
