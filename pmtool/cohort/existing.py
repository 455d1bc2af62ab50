"""Whose the files are that stand where outputs will."""

from __future__ import annotations

import json
from pathlib import Path

from pmtool.errors import OutputError
from pmtool.resampling.journal import Journal
from pmtool.resampling.options import Outputs


def check_own(outputs: Outputs) -> None:
    """Raise `OutputError` for a file that is there and that no run of pmtool has written.

    A run's files are named by its journal, and there is a sidecar when it is over. Folders are
    judged by `pmtool.dicom.folder`.
    """
    if _is_sidecar(outputs.sidecar):
        return
    own = Journal(outputs.journal).outputs
    for path in outputs.files():
        if path.is_file() and path.resolve() not in own:
            raise OutputError(
                f"{path} exists and nothing tells that pmtool made it; move it away or name "
                "another folder for the outputs"
            )


def _is_sidecar(path: Path) -> bool:
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and "pmtool" in told
