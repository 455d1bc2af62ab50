"""Texts about a run: the paragraph before it, and its warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmtool.geometry.grid import Grid
from pmtool.sampling.suitability import engine_text
from pmtool.system.tables import listed
from pmtool.system.units import amount, counted, duration

if TYPE_CHECKING:
    from pmtool.resampling.preparation import Run


def plan_text(run: Run, missing: int) -> str:
    """One paragraph on what will be done, with what, and for how long."""
    volume, grid = run.stack.volume, run.stack.grid
    sampler, plan = run.sampler, run.plan
    kinds = ", ".join(f"{number} {kind}" for kind, number in grid.counts().items())
    height, width = volume.shape
    return (
        f"{len(volume.slices)} slices of {width}x{height} at {grid.source_spacing:g} mm become "
        f"{len(grid.slices)} at {grid.spacing:g} mm (grid {grid.name}: {kinds}); "
        f"{counted(missing, 'slice')} to generate in {counted(grid.rounds, 'round')} by "
        f"{engine_text(sampler)}, windows of {plan.window[1]}x{plan.window[0]}, "
        f"{plan.workers * plan.batch} at once; about {amount(plan.memory)} of memory and "
        f"{duration(missing * plan.seconds_per_slice)}."
    )


def interpolation_text(grid: Grid) -> str | None:
    """A sentence on slices that had to be interpolated, if any."""
    interpolated = [output for output in grid.slices if output.is_between]
    if not interpolated:
        return None
    how = "interpolated between generated ones"
    if len(interpolated[0].weights) == 1:
        shift = max(abs(grid.shift(output)) for output in interpolated)
        how = f"the nearest acquired or generated ones, at most {shift:.2g} mm away"
    text = (
        f"{len(interpolated)} of {len(grid.slices)} slices are {how}, because "
        f"grid {grid.name} at {grid.spacing:.7g} mm does not meet them"
    )
    if any(position != index for index, position in enumerate(grid.nodes.positions)):
        return text
    spacings = [s for s in grid.dyadic_spacings() if s < grid.source_spacing]
    # With fewer digits, a long stack would drift away from what is advised.
    return f"{text}; keep-slices at {' or '.join(f'{s:.7g}' for s in spacings)} mm avoids it"


def uneven_text(grid: Grid) -> str | None:
    """A sentence on gaps between slices that are not one slice distance, if any."""
    gaps = [
        f"{grid.nodes.lengths[gap] * grid.source_spacing:.4g} mm after slice {gap}"
        for gap in grid.odd_gaps()
    ]
    if not gaps:
        return None
    return (
        f"{len(gaps)} of {len(grid.nodes.lengths)} gaps between slices are not "
        f"{grid.source_spacing:g} mm: {listed(gaps)}; the JSON file tells how each was filled"
    )


def copy_text(grid: Grid) -> str | None:
    """A sentence on an output that only has slices of the input in their places, if it does."""
    if not all(output.is_copy and not output.is_between for output in grid.slices):
        return None
    return (
        f"slices {grid.spacing:g} mm apart are there already; the output is a copy of the input's"
    )
