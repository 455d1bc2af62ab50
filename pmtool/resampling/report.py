"""Texts about a run: the paragraph before it, its warnings, and statistics of slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pmtool.geometry.grid import Grid
from pmtool.images.volume import Volume
from pmtool.system.tables import listed
from pmtool.system.units import amount, duration

if TYPE_CHECKING:
    from pmtool.resampling.preparation import Run
    from pmtool.sampling.sampler import Sampler

_TO_DEVIATION = 1.4826 / 1.5**0.5
"""Standard deviation of white noise over the median absolute difference from two neighbours."""
_MADE = ("SYNTHESISED", "INTERPOLATED", "EXTRAPOLATED")


def plan_text(run: Run, missing: int) -> str:
    """One paragraph on what will be done, with what, and for how long."""
    volume, grid = run.stack.volume, run.stack.grid
    sampler, plan = run.sampler, run.plan
    kinds = ", ".join(f"{number} {kind}" for kind, number in grid.counts().items())
    rounds = "1 round" if grid.rounds == 1 else f"{grid.rounds} rounds"
    height, width = volume.shape
    return (
        f"{grid.count} slices of {width}x{height} at {grid.source_spacing:g} mm become "
        f"{len(grid.slices)} at {grid.spacing:g} mm (grid {grid.name}: {kinds}); {missing} slices "
        f"to generate in {rounds} by {engine_text(sampler)}, windows of {plan.window[1]}x"
        f"{plan.window[0]}, {plan.batch} at once; about {amount(plan.memory)} of "
        f"memory and {duration(missing * plan.seconds_per_slice)}."
    )


def engine_text(sampler: Sampler) -> str:
    """The model of a sampler, and the device, engine and precision that it runs with."""
    return (
        f"model {sampler.bundle.manifest.name} on {sampler.device} "
        f"({sampler.backend}, {sampler.precision})"
    )


def interpolation_text(grid: Grid) -> str | None:
    """A sentence on slices that had to be interpolated, if any."""
    number = grid.counts().get("interpolated", 0)
    if not number:
        return None
    text = (
        f"{number} of {len(grid.slices)} slices are interpolated between generated ones, because "
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
        f"{len(gaps)} of {grid.count - 1} gaps between slices are not {grid.source_spacing:g} mm: "
        f"{listed(gaps)}; the JSON file tells how each was filled"
    )


def made_text(volume: Volume) -> str | None:
    """A sentence on input slices that were not acquired, if any."""
    made = made_before(volume)
    if not made:
        return None
    return (
        f"{len(made)} of the {len(volume.slices)} slices of {volume.name} were made by pmtool "
        "before and count as acquired here; resample the original series instead"
    )


def spacing_text(grid: Grid, trained: tuple[float, float]) -> str | None:
    """A sentence on spacings that the model was not trained to produce, if any."""
    produced = {f"{s:.4g}": s for s in sorted(grid.generated_spacings(), reverse=True)}
    outside = [
        f"{text} mm"
        for text, s in produced.items()
        if not trained[0] * 0.99 <= s <= trained[1] * 1.01
    ]
    if not outside:
        return None
    return (
        f"slices will be generated at {listed(outside)}, outside the "
        f"{trained[0]:g} to {trained[1]:g} mm that the model was trained to produce; check them"
    )


def thickness_text(volume: Volume, trained: float) -> str | None:
    """A sentence on slices that are known to be thicker than those of the model's training."""
    thickness = volume.known_thickness
    if thickness is None or thickness <= trained * 1.01:
        return None
    return (
        f"the slices of {volume.name} are {thickness:g} mm thick; the model was trained on slices "
        f"of up to {trained:g} mm; check the result"
    )


def copy_text(grid: Grid) -> str | None:
    """A sentence on an output that has only slices of the input, if it is so."""
    if not all(output.is_copy for output in grid.slices):
        return None
    return (
        f"slices {grid.spacing:g} mm apart are there already; the output is a copy of the input's"
    )


def statistics(volume: Volume, grid: Grid, image: sitk.Image) -> dict[str, Any]:
    """Mean, deviation and noise of every slice and of every kind of slice, HU.

    Noise is a robust estimate: the median absolute difference of a pixel to the mean of its two
    neighbours in a row, scaled to the standard deviation of white noise.
    """
    slices = Volume(image, volume.axis, volume.name).slices
    kinds, moments = [output.kind for output in grid.slices], list(map(_moments, slices))
    rows = [
        {"index": index, "kind": kind, **found}
        for index, (kind, found) in enumerate(zip(kinds, moments, strict=True))
    ]
    by_kind = {
        kind: {
            name: _mean([x[name] for x, its in zip(moments, kinds, strict=True) if its == kind])
            for name in ("mean", "deviation", "noise")
        }
        for kind in grid.counts()
    }
    return {"unit": "HU", "by_kind": by_kind, "slices": rows}


def made_before(volume: Volume) -> list[int]:
    """The slices of a DICOM series that pmtool made, by the last value of ImageType."""
    types = [header.get("ImageType") or [""] for header in volume.headers or ()]
    return [index for index, values in enumerate(types) if values[-1] in _MADE]


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean(np.array(values, np.float64)))


def _moments(values: NDArray[Any]) -> dict[str, float | None]:
    values = values.astype(np.float64)
    detail = values[:, 1:-1] - (values[:, :-2] + values[:, 2:]) / 2
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "noise": float(np.median(np.abs(detail)) * _TO_DEVIATION) if detail.size else None,
    }
