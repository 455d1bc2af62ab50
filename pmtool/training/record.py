"""The record of a run in its folder, for the model made from its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pmtool.system.files import read_json

SCANS, LOG = "scans.json", "log.csv"


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


def read_record(folder: Path) -> Record | None:
    """Read the record in a folder; None if the folder is not a run's, or an earlier version's."""
    told = read_json(folder / SCANS)
    try:
        low, high = map(float, told["spacing_mm"])
        thickness = float(told["thickness_mm"])
        return Record(len(told["training"]), (low, high), thickness, folder / LOG)
    except (KeyError, TypeError, ValueError):
        return None
