"""What is told of a run: the paragraph before it, the sidecar after it, statistics of slices."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

import pmtool
from pmtool.geometry.grid import Grid, OutputSlice
from pmtool.images.volume import Volume
from pmtool.system.units import duration, gibibytes

if TYPE_CHECKING:
    from pmtool.models.bundle import Bundle
    from pmtool.resampling.options import Options
    from pmtool.resampling.synthesis import SliceSampler
    from pmtool.sampling.sampler import Estimate, Sampler

_LISTED = 5
_MADE = ("SYNTHESISED", "INTERPOLATED", "EXTRAPOLATED")
_DISCLAIMER = "Made for research; not a medical device. Synthesised slices are not acquired data."


def plan_text(
    volume: Volume,
    grid: Grid,
    bundle: Bundle,
    sampler: SliceSampler,
    estimate: Estimate,
    missing: int,
) -> str:
    """One paragraph: what will be done, with what, and for how long."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in grid.counts().items())
    rounds = "1 round" if grid.rounds == 1 else f"{grid.rounds} rounds"
    height, width = volume.shape
    return (
        f"{grid.count} slices of {width}x{height} at {grid.source_spacing:g} mm become "
        f"{len(grid.slices)} at {grid.spacing:g} mm (grid {grid.name}: {kinds}); {missing} slices "
        f"to generate in {rounds} by model {bundle.manifest.name} on {sampler.device} "
        f"({sampler.backend}, {sampler.precision}), windows of {estimate.window[1]}x"
        f"{estimate.window[0]}, {estimate.batch} at once; about {gibibytes(estimate.memory)} of "
        f"memory and {duration(missing * estimate.seconds_per_slice)}."
    )


def interpolation_text(grid: Grid) -> str | None:
    """A sentence on slices that had to be interpolated, if any."""
    number = grid.counts().get("interpolated", 0)
    if not number:
        return None
    text = (
        f"{number} of {len(grid.slices)} slices are interpolated between generated ones, because "
        f"grid {grid.name} at {grid.spacing:g} mm does not meet them"
    )
    if any(position != index for index, position in enumerate(grid.nodes.positions)):
        return text
    coarser, finer = grid.dyadic_spacings()
    return f"{text}; keep-slices at {coarser:g} or {finer:g} mm avoids it"


def uneven_text(grid: Grid) -> str | None:
    """A sentence on gaps between slices that are not one slice distance, if any."""
    gaps = [
        f"{grid.nodes.lengths[gap] * grid.source_spacing:.4g} mm after slice {gap}"
        for gap in grid.odd_gaps()
    ]
    if not gaps:
        return None
    more = f" and {len(gaps) - _LISTED} more" if len(gaps) > _LISTED else ""
    return (
        f"{len(gaps)} of {grid.count - 1} gaps between slices are not {grid.source_spacing:g} mm: "
        f"{', '.join(gaps[:_LISTED])}{more}; the JSON file tells how each was filled"
    )


def made_text(volume: Volume) -> str | None:
    """A sentence on slices that are no acquired ones, if any."""
    made = _made_before(volume)
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
        text for text, s in produced.items() if not trained[0] * 0.99 <= s <= trained[1] * 1.01
    ]
    if not outside:
        return None
    more = f" and {len(outside) - _LISTED} others" if len(outside) > _LISTED else ""
    return (
        f"slices will be generated at {', '.join(outside[:_LISTED])}{more} mm, outside the "
        f"{trained[0]:g} to {trained[1]:g} mm that the model was trained to produce; check them"
    )


def sidecar(
    volume: Volume,
    grid: Grid,
    options: Options,
    key: dict[str, Any],
    sampler: Sampler,
) -> dict[str, Any]:
    """How the output came about, down to each slice; plain JSON values."""
    bundle = sampler.bundle
    libraries = {name: version(name) for name in ("numpy", "SimpleITK")}
    return {
        "pmtool": pmtool.__version__,
        "notice": _DISCLAIMER,
        "versions": {"python": platform.python_version(), **libraries},
        "model": {
            "name": bundle.manifest.name,
            "sha256": bundle.hash,
            "trained_on": bundle.manifest.trained_on,
        },
        "device": sampler.device,
        "backend": sampler.backend,
        "precision": sampler.precision,
        "seed": options.seed,
        "options": {**key, "samples": options.samples, "assume_hu": options.assume_hu},
        "input": {
            "name": Path(volume.name).name,
            "sha256_of_voxels_and_geometry": key["input"],
            "slices": grid.count,
            "spacing_mm": list(volume.image.GetSpacing()),
            "uneven_positions_mm": volume.positions,
            "made_by_pmtool": _made_before(volume),
        },
        "grid": {
            "name": grid.name,
            "axis": "xyz"[volume.axis],
            "spacing_mm": grid.spacing,
            "first_position": grid.first,
            "rounds": grid.rounds,
            "counts": grid.counts(),
            "dyadic_spacings_mm": list(grid.dyadic_spacings()),
            "odd_gaps": [_gap_entry(grid, gap) for gap in grid.odd_gaps()],
            "note": interpolation_text(grid),
        },
        "slices": [_slice_entry(grid, index, s) for index, s in enumerate(grid.slices)],
    }


def statistics(volume: Volume, grid: Grid, image: sitk.Image) -> dict[str, Any]:
    """Mean, deviation and noise of every slice and of every kind of slice, HU.

    Noise is a robust estimate: the median absolute difference of a pixel to the mean of its two
    neighbours in a row, scaled to the standard deviation of white noise.
    """
    slices = Volume(image, volume.axis, volume.name).slices
    rows = [
        {"index": index, "kind": output.kind, **_moments(slices[index])}
        for index, output in enumerate(grid.slices)
    ]
    by_kind = {
        kind: {
            name: float(np.mean([row[name] for row in rows if row["kind"] == kind]))
            for name in ("mean", "deviation", "noise")
        }
        for kind in grid.counts()
    }
    return {"unit": "HU", "by_kind": by_kind, "slices": rows}


def _made_before(volume: Volume) -> list[int]:
    """The slices of a DICOM series that pmtool made, as the last value of ImageType says."""
    types = [header.get("ImageType") or [""] for header in volume.headers or ()]
    return [index for index, values in enumerate(types) if values[-1] in _MADE]


def _slice_entry(grid: Grid, index: int, output: OutputSlice) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "index": index,
        "kind": output.kind,
        "position": output.position,
        "position_mm": round(grid.first * grid.source_spacing + index * grid.spacing, 6),
    }
    if output.kind in ("acquired", "extrapolated"):
        return {**entry, "source": output.weights[0].node >> grid.rounds}
    return {**entry, "pair": list(output.gap)}


def _gap_entry(grid: Grid, gap: int) -> dict[str, Any]:
    """How a gap was filled that is not one slice distance."""
    length = grid.nodes.lengths[gap]
    inside = [s.kind for s in grid.slices if gap < s.position < gap + 1]
    return {
        "pair": [gap, gap + 1],
        "mm": length * grid.source_spacing,
        "slice_distances": length,
        "halvings": grid.nodes.halvings[gap],
        "counts": {kind: inside.count(kind) for kind in sorted(set(inside))},
    }


def _moments(values: NDArray[Any]) -> dict[str, float]:
    values = values.astype(np.float64)
    detail = values[:, 1:-1] - (values[:, :-2] + values[:, 2:]) / 2
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "noise": float(np.median(np.abs(detail)) * 1.4826 / np.sqrt(1.5)),
    }
