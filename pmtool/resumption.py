"""What a run leaves on disk while it lasts, so that it can be killed at any moment."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pmtool.errors import OutputError
from pmtool.files import alone_in
from pmtool.journal import Journal
from pmtool.options import Outputs

_log = logging.getLogger("pmtool")


@contextmanager
def resumable(outputs: Outputs, key: dict[str, Any]) -> Iterator[Journal | None]:
    """The journal of a run, for this process alone; None where the run is complete.

    The journal stays if the run stops after its first slice; nothing stays of one that stops
    before.

    Parameters
    ----------
    outputs
        The run's files. Those that exist are refused unless they may be replaced, or are the
        run's own from before it was killed.
    key
        Everything that decides the output's voxels; plain JSON values.

    Raises
    ------
    UsageError
        If there is an interrupted run, and it is not asked for or another one.
    OutputError
        If another process is at it, or a file exists or cannot be written.
    """
    with alone_in(outputs.journal):
        if outputs.resume and not missing_files(outputs, key):
            _log.info("%s is complete", outputs.image)
            Journal(outputs.journal).remove()
            yield None
            return
        journal = Journal.open(
            outputs.journal, key, resume=outputs.resume, discard=outputs.overwrite
        )
        try:
            for path in outputs.files():
                outputs.check(path, outputs.overwrite or path.resolve() in journal.outputs)
            journal.expect(outputs.files())
            yield journal
        except BaseException:
            if journal.is_empty:
                with suppress(OutputError):
                    journal.remove()
            else:
                _log.warning("finished slices are kept in %s; go on with --resume", journal.folder)
            raise


def missing_files(outputs: Outputs, key: dict[str, Any]) -> list[Path]:
    """Files that a run lacks: all of them, unless the sidecar tells of this very run.

    The sidecar is written last, and a run that has a journal is not over.
    """
    if Journal(outputs.journal).exists or not _tells_of(outputs.sidecar, key):
        return outputs.files()
    return [path for path in outputs.files() if not path.exists()]


def _tells_of(sidecar: Path, key: dict[str, Any]) -> bool:
    try:
        told = json.loads(sidecar.read_bytes())["options"]
        return all(told[name] == value for name, value in key.items())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
