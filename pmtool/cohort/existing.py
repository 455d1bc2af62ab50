"""Check that existing files at the outputs' paths are pmtool's own."""

from __future__ import annotations

from pathlib import Path

from pmtool.errors import OutputError
from pmtool.resampling.journal import Journal
from pmtool.resampling.options import Outputs
from pmtool.resampling.sidecar import read_sidecar, unchanged
from pmtool.system.files import resolved


def check_own(outputs: Outputs) -> None:
    """Raise `OutputError` for an existing output that pmtool did not write or that has changed.

    The journal lists the files of a run; once the run is over, the sidecar lists them with their
    digests. An empty folder may become that of a DICOM series.
    """
    own = unchanged(outputs, read_sidecar(outputs), earlier=True)
    own |= Journal(outputs.journal).outputs
    for path in outputs.files():
        if _is_taken(path) and not own & {path, resolved(path)}:
            raise OutputError(
                f"{path} exists and nothing tells that pmtool made it as it is; move it away or "
                "name another folder for the outputs"
            )


def _is_taken(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.is_file()
