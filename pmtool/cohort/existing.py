"""Whose the files are that stand where outputs will."""

from __future__ import annotations

from pmtool.errors import OutputError
from pmtool.resampling.journal import Journal
from pmtool.resampling.options import Outputs
from pmtool.resampling.sidecar import read_sidecar, unchanged


def check_own(outputs: Outputs) -> None:
    """Raise `OutputError` for a file that is there and that no run of pmtool has written so.

    A run's files are named by its journal, and by a sidecar with their digests when it is over.
    Folders are judged by `pmtool.dicom.folder`.
    """
    own = unchanged(outputs, read_sidecar(outputs), earlier=True)
    own |= Journal(outputs.journal).outputs
    for path in outputs.files():
        if path.is_file() and not own & {path, path.resolve()}:
            raise OutputError(
                f"{path} exists and nothing tells that pmtool made it as it is; move it away or "
                "name another folder for the outputs"
            )
