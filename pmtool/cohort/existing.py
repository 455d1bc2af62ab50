"""What there is of a case already."""

from __future__ import annotations

import json
from pathlib import Path

from pmtool.errors import OutputError
from pmtool.journal import Journal
from pmtool.options import Outputs
from pmtool.resampling import Run, mask_key
from pmtool.resumption import missing_files


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


def files_to_make(run: Run) -> set[Path]:
    """Files of a run that are not there, or not of these voxels, this model and these options.

    The volume is among them if any voxel has to be generated.
    """
    outputs = run.outputs
    assert outputs is not None
    missing = set(missing_files(outputs, run.key))
    if outputs.image in missing:
        return set(outputs.files())
    told = json.loads(outputs.sidecar.read_bytes())
    if outputs.segmentation_out is not None and told.get("segmentation") != mask_key(run):
        missing.add(outputs.segmentation_out)
    for name in ("preview", "statistics"):
        path = getattr(outputs, name)
        if path is not None and not told.get(name):  # of a volume that was replaced, or not ours
            missing.add(path)
    samples = told["options"].get("samples")
    if outputs.uncertainty in missing or (outputs.uncertainty and samples != run.options.samples):
        return set(outputs.files())
    return missing
