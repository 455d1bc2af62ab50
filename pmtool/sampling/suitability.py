"""The model of a sampler: what runs it, and sentences on scans that it was not trained for."""

from __future__ import annotations

from pmtool.geometry.grid import Grid
from pmtool.images.volume import Volume, same_spacing
from pmtool.sampling.sampler import Sampler
from pmtool.system.tables import listed

OVERLAP = 1.25
"""Thickness, as a share of the distance between slices, from which they count as overlapping."""


def engine_text(sampler: Sampler) -> str:
    """The model of a sampler, and the device, engine and precision that it runs with."""
    return (
        f"model {sampler.bundle.manifest.name} on {sampler.device} "
        f"({sampler.engine.backend}, {sampler.engine.precision})"
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


def pixel_text(volume: Volume) -> str | None:
    """A sentence on pixels that are not square, as if slices lay along another axis."""
    one, other = (s for axis, s in enumerate(volume.image.GetSpacing()) if axis != volume.axis)
    if same_spacing(one, other):
        return None
    return (
        f"the slices of {volume.name}, taken to lie along {'xyz'[volume.axis]}, have pixels of "
        f"{one:.4g} x {other:.4g} mm; the model was trained on square ones; check the result"
    )


def overlap_text(volume: Volume) -> str | None:
    """A sentence on acquired slices that are known to overlap."""
    thickness = volume.known_thickness
    if thickness is None or thickness <= volume.spacing * OVERLAP or volume.made_before:
        return None
    return (
        f"the slices of {volume.name} overlap, being {thickness:g} mm thick and "
        f"{volume.spacing:.4g} mm apart; the model saw no such slices and takes them as touching; "
        "check the result"
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
