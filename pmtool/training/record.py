"""The record of a run's scans in its folder, for resuming the run and for its model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pmtool.errors import InputError, UsageError
from pmtool.system.files import read_json, write_json

SCANS, LOG = "scans.json", "log.csv"
Scans = Mapping[str, Sequence[Mapping[str, Any]]]
"""Descriptions of the scans for training and for validation, see `Split.to_json`."""
Contents = list[tuple[float, float, str]]
"""Spacing, thickness and hash of scans, in their order, wherever they are stored."""


class Record(NamedTuple):
    """Record of what a run was trained on.

    Attributes
    ----------
    scans
        Number of scans.
    spacing_mm
        Smallest and largest distance of a target to its neighbours.
    thickness_mm
        Largest thickness of a slice.
    log
        Path of the log, which may be missing.
    """

    scans: int
    spacing_mm: tuple[float, float]
    thickness_mm: float
    log: Path


def write_record(
    folder: Path,
    scans: Scans,
    *,
    spacing_mm: tuple[float, float],
    thickness_mm: float,
    skipped: Sequence[str],
) -> None:
    """Write the record of a new run, with sentences on skipped scans; raises `OutputError`."""
    details = {"spacing_mm": spacing_mm, "thickness_mm": thickness_mm, "skipped": skipped}
    write_json({**scans, **details}, folder / SCANS)


def check_scans(folder: Path, scans: Scans) -> None:
    """Check that scans are those of the record.

    Raises
    ------
    InputError
        If the record is damaged.
    UsageError
        If the scans have changed.
    """
    path = folder / SCANS
    try:
        listed = json.loads(path.read_text())
        before = {side: _contents(listed[side]) for side in scans}
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: restore it, or start another run") from error
    if before != {side: _contents(current) for side, current in scans.items()}:
        raise UsageError(
            f"the scans are not those that {folder} was begun with, see its {SCANS}: restore "
            "them, or give another --out"
        )


def read_record(folder: Path) -> Record | None:
    """Read the record in a folder; None if it holds no run, or one of an earlier version."""
    content = read_json(folder / SCANS)
    try:
        low, high = map(float, content["spacing_mm"])
        thickness = float(content["thickness_mm"])
        return Record(len(content["training"]), (low, high), thickness, folder / LOG)
    except (KeyError, TypeError, ValueError):
        return None


def _contents(scans: Sequence[Mapping[str, Any]]) -> Contents:
    return [(scan["spacing_mm"], scan["thickness_mm"], scan["sha256"]) for scan in scans]
