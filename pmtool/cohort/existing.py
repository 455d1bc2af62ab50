"""What there is of a case already."""

from __future__ import annotations

import json
from pathlib import Path

from pmtool.resampling import Run, mask_key
from pmtool.resumption import missing_files


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
