"""Interruption and resumption: what a run leaves on disk, so that it can be killed at any time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pmtool.errors import OutputError
from pmtool.resampling.journal import Journal
from pmtool.resampling.needs import check_disk_for
from pmtool.resampling.preparation import FileRun
from pmtool.resampling.sidecar import read_sidecar, unchanged
from pmtool.resampling.synthesis import missing_jobs
from pmtool.system.files import folder_lock, resolved

_log = logging.getLogger("pmtool")


@contextmanager
def resumable(run: FileRun, remedy: str) -> Iterator[tuple[Journal, set[Path]]]:
    """The journal of a run, locked for this process, and the files to make; none if it is complete.

    The journal stays if the run stops after its first slice; nothing is left of a run that stops
    earlier.

    Parameters
    ----------
    run
        Existing files are refused unless they may be replaced, or are the run's own from before
        it was killed.
    remedy
        How to continue after an interruption.

    Raises
    ------
    UsageError
        If there is an interrupted run that is not to be resumed, or is a different run.
    OutputError
        If another process is working on the run, a file exists or cannot be written, or a disk has
        no room.
    """
    outputs = run.outputs
    with folder_lock(outputs.journal):
        files = files_to_make(run) if outputs.resume else set(outputs.files())
        journal = Journal(outputs.journal)
        if not files:
            _log.info("%s is complete", outputs.image)
            journal.remove()
            yield journal, files
            return
        _check_room(run, files)
        begun = journal.outputs
        for path in filter(files.__contains__, outputs.files()):
            outputs.check(path, outputs.overwrite or resolved(path) in begun)
        if outputs.image in files:
            Journal.open(outputs.journal, run.key, resume=outputs.resume, discard=outputs.overwrite)
        else:  # without a key, so that the volume still counts as made
            journal.clear()
        try:
            yield journal, files
        except BaseException as error:
            _leave(journal, error, remedy)
            raise


def _leave(journal: Journal, error: BaseException, remedy: str) -> None:
    """Say what is kept of a run that stops early, and remove a journal without any slice."""
    if not journal.is_empty:
        if journal.exists:
            _log.warning("finished slices are kept in %s; %s", journal.folder, remedy)
        return
    if isinstance(error, KeyboardInterrupt):
        _log.warning("no slice was finished yet, so that nothing is kept")
    with suppress(OutputError):
        journal.remove()


def files_to_make(run: FileRun) -> set[Path]:
    """Files of a run that are missing or were not made with its voxels, model and options.

    The volume is among them if any voxel has to be generated. The sidecar describes all files; it
    is written last, and a run with a journal has not ended.
    """
    outputs = run.outputs
    content, every = read_sidecar(outputs), set(outputs.files())
    if not _is_of(content, run.key) or Journal(outputs.journal).exists:
        return every
    missing = every - unchanged(outputs, content)
    if outputs.segmentation_out is not None and content.get("segmentation") != run.mask_key:
        missing.add(outputs.segmentation_out)
    if outputs.uncertainty is not None and content["options"].get("samples") != run.options.samples:
        missing.add(outputs.uncertainty)
    return every if missing & {outputs.image, outputs.uncertainty} else missing


def _check_room(run: FileRun, files: set[Path]) -> None:
    """Raise `OutputError` if there is no room for the files and for the slices that they lack."""
    stack, outputs, lacking = run.stack, run.outputs, 0
    if outputs.image in files:
        journal = Journal(outputs.journal)
        resumed = replace(stack, generated=journal if journal.matches(run.key) else {})
        lacking = sum(map(len, missing_jobs(resumed, run.options.samples)))
    check_disk_for(stack.volume, stack.grid, run.mask, outputs, files, lacking)


def _is_of(content: dict[str, Any], key: dict[str, Any]) -> bool:
    """Whether a sidecar belongs to a run with this key."""
    options = content.get("options")
    return isinstance(options, dict) and all(options.get(k) == value for k, value in key.items())
