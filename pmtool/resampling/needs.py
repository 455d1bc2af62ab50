"""Checks, before the work, that a run has the memory and disk space it needs."""

from __future__ import annotations

import math
from collections.abc import Container
from pathlib import Path

import numpy as np

from pmtool.errors import MemoryBudgetError
from pmtool.geometry.grid import Grid
from pmtool.images.volume import Volume
from pmtool.resampling.options import Outputs
from pmtool.system.limits import check_disk, check_memory
from pmtool.system.units import amount

_GENERATED = np.dtype(np.int16).itemsize
_DEVIATION = np.dtype(np.float32).itemsize


def check_memory_for(
    volume: Volume, grid: Grid, mask: Volume | None, outputs: Outputs | None, budget: int | None
) -> None:
    """Raise `MemoryBudgetError` if input and output exceed the budget, or the output free memory.

    Parameters
    ----------
    mask
        Mask that will be written on the grid, if any.
    outputs
        The files to write; without them, generated slices are in memory and count as output.
    """
    pixels = math.prod(volume.shape)
    if outputs is None:
        generated = sum(map(len, grid.generated_rounds()))
        output = pixels * (volume.dtype.itemsize * len(grid.slices) + _GENERATED * generated)
    else:
        output = sum(_sizes(volume, grid, mask, outputs).values())
    needed = volume.dtype.itemsize * pixels * len(volume.slices) + output
    if budget is not None and needed > budget:
        raise MemoryBudgetError(
            f"input and output alone take {amount(needed)}; give a larger --memory"
        )
    check_memory(output, "the output")


def check_disk_for(
    volume: Volume,
    grid: Grid,
    mask: Volume | None,
    outputs: Outputs,
    files: Container[Path],
    generated: int,
) -> None:
    """Raise `OutputError` if the files to make and the journal do not fit on their disks.

    Parameters
    ----------
    mask
        Mask that will be written on the grid, if any.
    files
        Those of the outputs that will be made.
    generated
        Number of slices that the journal will hold.
    """
    journal = math.prod(volume.shape) * generated * _GENERATED
    sizes = _sizes(volume, grid, mask, outputs)
    made = {path: size for path, size in sizes.items() if path in files}
    check_disk({**made, outputs.journal: journal})


def _sizes(volume: Volume, grid: Grid, mask: Volume | None, outputs: Outputs) -> dict[Path, int]:
    """Bytes of the voxels of every volume to write."""
    voxels = math.prod(volume.shape) * len(grid.slices)
    per_voxel = {
        outputs.image: volume.dtype.itemsize,
        outputs.uncertainty: _DEVIATION,
        outputs.segmentation_out: 0 if mask is None else mask.dtype.itemsize,
    }
    return {path: voxels * size for path, size in per_voxel.items() if path is not None}
