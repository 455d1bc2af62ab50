"""The folder of a run: a record of its settings and scans, so that it continues with the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pmtool.errors import InputError, OutputError, UsageError
from pmtool.system.files import write_json
from pmtool.system.outputs import names_in
from pmtool.training.record import SCANS
from pmtool.training.selection import Split, largest_thickness, target_spacings
from pmtool.training.settings import Settings, differences, load_settings, save_settings

CACHE, SETTINGS = "cache", "settings.yaml"
Contents = list[tuple[float, float, str]]
"""Spacing, thickness and hash of scans, in their order, wherever they lie."""


def agreed_settings(folder: Path, wanted: Settings | None, *, resume: bool) -> Settings:
    """Return the settings of a run that is started or resumed.

    Parameters
    ----------
    folder
        Folder of the run; at its start, it is missing, empty or holds only a cache.
    wanted
        Wanted settings; None for those in the folder, or the defaults in a new one.
    resume
        Whether to continue the run in the folder; in an empty folder, a new run is started anyway.

    Raises
    ------
    OutputError
        If the folder holds a run that is not to be resumed, or something else.
    UsageError
        If the run was started with other settings.
    """
    there = names_in(folder)
    if set(there) <= {CACHE}:
        return wanted or Settings()
    if SETTINGS not in there:
        raise OutputError(f"{folder} is not empty and holds no run: give another --out")
    if not resume:
        raise OutputError(f"{folder} holds a run: go on with --resume, or give another --out")
    begun = load_settings("compact", folder / SETTINGS)
    changed = differences(begun, wanted) if wanted else []
    if changed:
        raise UsageError(
            f"{folder} was begun with another {', '.join(changed)}: leave the settings out to go "
            "on, or give another --out"
        )
    return begun


def begin(folder: Path, settings: Settings, split: Split, skipped: list[str]) -> None:
    """Record the settings and scans of a new run, or check that a resumed run has the same scans.

    Raises
    ------
    InputError
        If the list of scans is damaged.
    UsageError
        If the scans have changed.
    OutputError
        If the folder cannot be written.
    """
    scans = split.to_json()
    if (folder / SCANS).exists():
        before = _read(folder / SCANS)
        if before != {side: _contents(found) for side, found in scans.items()}:
            raise UsageError(
                f"the scans are not those that {folder} was begun with, see its {SCANS}: restore "
                "them, or give another --out"
            )
        return
    save_settings(settings, folder / SETTINGS)
    known = {
        "spacing_mm": target_spacings(split.training, settings.crops),
        "thickness_mm": largest_thickness(split.training, settings.crops),
    }
    write_json({**scans, **known, "skipped": skipped}, folder / SCANS)


def _read(path: Path) -> dict[str, Contents]:
    try:
        listed = json.loads(path.read_text())
        return {side: _contents(listed[side]) for side in Split._fields}
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: restore it, or start another run") from error


def _contents(scans: list[dict[str, Any]]) -> Contents:
    return [(scan["spacing_mm"], scan["thickness_mm"], scan["sha256"]) for scan in scans]
