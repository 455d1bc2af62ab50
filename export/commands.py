"""The work of `pmtool export`: checks before the export, and text to print after it."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

from pmtool.choices import Precision
from pmtool.errors import OutputError, UsageError
from pmtool.models.bundle import MANIFEST, WEIGHTS, Bundle, Description
from pmtool.system.devices import CPU, find_devices
from pmtool.system.files import target_of, writing
from pmtool.system.outputs import names_in
from pmtool.system.stages import Tell
from pmtool.system.tables import aligned
from pmtool.system.units import counted
from pmtool.training.record import read_record

EXPORT_OPTIONS = {
    "tensorrt": ("precision", "max-windows"),
    "checkpoint": ("name", "trained-on", "licence", "spacing", "thickness", "overwrite"),
}
"""Options that have a meaning only together with another option, by that other option."""


def export(
    checkpoint: Path,
    folder: Path,
    overwrite: bool,
    tell: Tell,
    *,
    name: str | None,
    trained_on: str | None,
    licence: str,
    spacing: tuple[float, float] | None,
    thickness: float | None,
) -> str:
    """Export a checkpoint and return the table of its graphs' errors.

    Missing parts of the description are taken from the record of the training run in the
    checkpoint's folder. ``tell`` is called with the progress.

    Raises
    ------
    UsageError
        If the spacing or the thickness is unknown, or no manifest can hold the description.
    InputError
        If the checkpoint cannot be read or is not from pmtool.
    OutputError
        If the folder holds anything but a model that may be replaced, or cannot be written.
    FileNotFoundError
        If there is no folder for temporary files.
    """
    check_bundle_folder(folder, overwrite)
    tempfile.gettempdir()  # without one, PyTorch fails with an error about something else
    from pmtool.export.bundle import export_bundle
    from pmtool.training.checkpoint import load_checkpoint

    network = load_checkpoint(checkpoint)
    run = read_record(checkpoint.parent)
    if run is not None:
        spacing, thickness = spacing or run.spacing_mm, thickness or run.thickness_mm
    if spacing is None or thickness is None:
        raise UsageError(
            f"no record of a run lies beside {checkpoint}: give --spacing and --thickness, the "
            "distances and the largest thickness that it was trained for"
        )
    try:
        description = Description(
            name or folder.resolve().name,
            trained_on or (counted(run.scans, "scan") if run else "unknown data"),
            licence,
            spacing,
            thickness,
        )
    except ValueError as error:
        raise UsageError(f"{error}: correct the options that describe the model") from error
    with writing(folder):
        bundle = export_bundle(network, folder, description, run.log if run else None, tell)
    rows = [(graph, f"{error:.1e}") for graph, error in bundle.manifest.errors.items()]
    return "\n".join(aligned([("graph", "largest difference from PyTorch"), *rows]))


def check_export(given: Collection[str]) -> None:
    """Raise `UsageError` unless the options of ``pmtool export`` fit together.

    Parameters
    ----------
    given
        Names of the options on the command line.
    """
    if ("checkpoint" in given) != ("out" in given):
        raise UsageError("a model bundle needs both --checkpoint and --out: give both")
    if "checkpoint" not in given and "tensorrt" not in given:
        raise UsageError(
            "give --checkpoint and --out to make a model bundle, or --tensorrt to build engines"
        )
    if "model" in given and ("checkpoint" in given or "tensorrt" not in given):
        raise UsageError("--model is for --tensorrt without --checkpoint: leave it out")
    for needed, options in EXPORT_OPTIONS.items():
        idle = [f"--{name}" for name in options if name in given and needed not in given]
        if idle:
            raise UsageError(
                f"{' and '.join(idle)} would do nothing without --{needed}: leave out or give both"
            )


def check_tensorrt(precision: Precision) -> str:
    """Return the first GPU; raises `UsageError` unless engines can be built for it."""
    from pmtool.backends import tensorrt

    device, *_ = find_devices("auto")
    if device == CPU:
        raise UsageError(
            "there is no NVIDIA GPU here: give --tensorrt on the machine whose GPU will run the "
            "engines"
        )
    tensorrt.check((device,), precision)
    return device


def export_engines(
    model: Path | None, device: str, precision: Precision, max_windows: int | None
) -> str:
    """Build the engines of a bundle for a GPU and return the table of their errors."""
    from pmtool.backends import tensorrt
    from pmtool.backends.accuracy import error_table

    engines = tensorrt.load(Bundle.load(model), device, precision, 1, max_windows).engines
    manifest, target = engines.manifest(), engines.target
    description = (
        f"{target.gpu}, {target.tensorrt}, {manifest['max_windows']} windows: {engines.folder}"
    )
    return f"{error_table(manifest['errors'])}\n{description}"


def check_bundle_folder(folder: Path, overwrite: bool) -> None:
    """Raise `OutputError` unless a folder is empty or holds a model that may be overwritten."""
    from pmtool.export.bundle import MADE

    names = [name for name in names_in(folder) if target_of(name) != MADE]
    if names and not overwrite:
        raise OutputError(f"{folder} is not empty: give another --out or --overwrite")
    if names and MANIFEST not in names and WEIGHTS not in names:
        raise OutputError(f"{folder} holds no model to replace: give another --out")
