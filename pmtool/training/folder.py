"""The folder of a run: a record of its settings and scans, so that it resumes with the same."""

from __future__ import annotations

from pathlib import Path

from pmtool.errors import OutputError, UsageError
from pmtool.system.outputs import names_in
from pmtool.training.record import SCANS, check_scans, write_record
from pmtool.training.selection import Split, largest_thickness, target_spacings
from pmtool.training.settings import Settings, changed_settings, load_settings, save_settings

CACHE, SETTINGS = "cache", "settings.yaml"


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
    names = names_in(folder)
    if set(names) <= {CACHE}:
        return wanted or Settings()
    if SETTINGS not in names:
        raise OutputError(f"{folder} is not empty and holds no run: give another --out")
    if not resume:
        raise OutputError(f"{folder} holds a run: go on with --resume, or give another --out")
    begun = load_settings("compact", folder / SETTINGS)
    changed = changed_settings(begun, wanted) if wanted else []
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
        check_scans(folder, scans)
        return
    save_settings(settings, folder / SETTINGS)
    write_record(
        folder,
        scans,
        spacing_mm=target_spacings(split.training, settings.crops),
        thickness_mm=largest_thickness(split.training, settings.crops),
        skipped=skipped,
    )
