"""The JSON file beside an output: how it was made, and which files were made with it.

It is written last. A file that still matches its digest is as it was made; see `unchanged`.
"""

from __future__ import annotations

import platform
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmtool.backends.selection import DISTRIBUTIONS
from pmtool.geometry.grid import Grid, OutputSlice
from pmtool.images.made import output_hash
from pmtool.resampling.options import Outputs, with_voxels
from pmtool.resampling.report import interpolation_text
from pmtool.system.files import read_json
from pmtool.system.tables import listed
from pmtool.system.versions import own_version, package_version

if TYPE_CHECKING:
    from pmtool.resampling.preparation import Run

_DISCLAIMER = "Made for research; not a medical device. Synthesised slices are not acquired data."
_FILES, _EARLIER = "files", "earlier_files"
_KINDS = {"segmentation_out": "mask"}
"""Names of files for users, where those of their fields do not do."""


def content(run: Run) -> dict[str, Any]:
    """How the output was made, down to each slice, as plain JSON values."""
    volume, grid = run.stack.volume, run.stack.grid
    options, engine, bundle = run.options, run.sampler.engine, run.sampler.bundle
    packages = ("numpy", "SimpleITK", *DISTRIBUTIONS.get(engine.backend, ()))
    libraries = {name: package_version(name) for name in packages}
    return {
        "pmtool": own_version(),
        "notice": _DISCLAIMER,
        "versions": {
            "python": platform.python_version(),
            **{name: number for name, number in libraries.items() if number is not None},
        },
        "model": {
            "name": bundle.manifest.name,
            "sha256": bundle.hash,
            "trained_on": bundle.manifest.trained_on,
        },
        "device": run.sampler.device,
        "backend": engine.backend,
        "precision": engine.precision,
        "seed": options.seed,
        "options": {**run.key, "samples": options.samples, "assume_hu": options.assume_hu},
        "input": {
            "name": volume.file_name,
            "sha256_of_voxels_and_geometry": run.key["input"],
            "thickness_mm": volume.thickness,
            "thickness_is_known": volume.known_thickness is not None,
            "slices": len(volume.slices),
            "spacing_mm": list(volume.image.GetSpacing()),
            "uneven_positions_mm": volume.positions,
            "made_by_pmtool": volume.made_before,
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


def digests(outputs: Outputs, written: Container[Path]) -> dict[str, dict[str, str]]:
    """SHA-256 of files for the sidecar, by their fields of `Outputs`.

    Files of an earlier volume that were not written with this one are listed separately.
    """
    before = read_sidecar(outputs)
    files, earlier = before.get(_FILES, {}), before.get(_EARLIER, {})
    if outputs.image in written:
        files, earlier = {}, {**earlier, **files}
    products = outputs.products().items()
    files = {**files, **{name: output_hash(path) for name, path in products if path in written}}
    return {_FILES: files, _EARLIER: {k: v for k, v in earlier.items() if k not in files}}


def earlier_text(content: dict[str, Any]) -> str | None:
    """A sentence on files that a sidecar says are of an earlier volume, if any."""
    kinds = [_KINDS.get(name, name) for name in content[_EARLIER]]
    if not kinds:
        return None
    return (
        f"files of an earlier volume of this name were not made anew ({listed(kinds)}): where they "
        "still exist, they do not belong to this one; remove them, or ask for them too"
    )


def read_sidecar(outputs: Outputs) -> dict[str, Any]:
    """Content of the sidecar; empty if there is none, or if it is not ours."""
    content = read_json(outputs.sidecar)
    return content if all(isinstance(content.get(key), dict) for key in (_FILES, _EARLIER)) else {}


def unchanged(outputs: Outputs, content: dict[str, Any], *, earlier: bool = False) -> set[Path]:
    """Existing files that match a sidecar, which may be empty, including the sidecar itself.

    Parameters
    ----------
    earlier
        Include files of an earlier volume.
    """
    if not content:
        return set()
    recorded = {**content[_FILES], **(content[_EARLIER] if earlier else {})}
    files = [(path, recorded.get(name)) for name, path in outputs.products().items()]
    same = [
        path for path, digest in files if digest and path.exists() and output_hash(path) == digest
    ]
    return {file for path in same for file in with_voxels(path)} | {outputs.sidecar}


def _slice_entry(grid: Grid, index: int, output: OutputSlice) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "index": index,
        "kind": output.kind,
        "position": output.position,
        "position_mm": round(grid.first * grid.source_spacing + index * grid.spacing, 6),
    }
    if output.is_between and len(output.weights) == 1:
        entry["shift_mm"] = round(grid.shift(output), 6)
    if output.is_copy:
        return {**entry, "source": grid.nodes.slice_before(output.weights[0].node)}
    return {**entry, "pair": list(output.gap)}


def _gap_entry(grid: Grid, gap: int) -> dict[str, Any]:
    """Description of how a gap other than one slice distance was filled."""
    length = grid.nodes.lengths[gap]
    inside = [s.kind for s in grid.slices if gap < s.position < gap + 1]
    return {
        "pair": [gap, gap + 1],
        "mm": length * grid.source_spacing,
        "slice_distances": length,
        "halvings": grid.nodes.halvings[gap],
        "counts": {kind: inside.count(kind) for kind in sorted(set(inside))},
    }
