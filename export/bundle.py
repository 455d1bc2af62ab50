"""Exporting a network as a bundle: weights, ONNX graphs and manifest, checked against PyTorch."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto

from pmtool.backends.differences import graph_errors
from pmtool.backends.onnxruntime import OnnxRuntimeBackend
from pmtool.errors import ModelError
from pmtool.export.to_onnx import export_graph
from pmtool.export.weights import WeightStore, refer, take_out
from pmtool.graphs.pixel import pixel_weights
from pmtool.graphs.row import row_weights
from pmtool.graphs.suite import graph_suite
from pmtool.models.bundle import (
    CARD,
    MANIFEST,
    NETWORK,
    PIXELS,
    ROWS,
    TRAINING_LOG,
    WEIGHTS,
    Bundle,
    Description,
    Manifest,
)
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_state
from pmtool.system.files import (
    folder_lock,
    move_into_place,
    remove_leftovers,
    temporary_beside,
    write_bytes,
    write_json,
)
from pmtool.system.hashes import file_hash
from pmtool.system.outputs import make_folder
from pmtool.system.stages import Tell

TOLERANCE = 1e-4
MADE = "bundle"
"""Name, within the folder, of the temporary folder in which a bundle is made."""


def export_bundle(
    network: PixelMiner, folder: Path, description: Description, log: Path | None, tell: Tell
) -> Bundle:
    """Write a bundle and check that ONNX Runtime agrees with PyTorch.

    Parameters
    ----------
    network
        The trained network.
    folder
        Folder of the bundle.
    description
        Description of the model for its manifest.
    log
        Training log, which may be missing.
    tell
        Called with the current stage and the share of the graphs that are done.

    Raises
    ------
    ModelError
        If a graph differs by more than `TOLERANCE`.
    OutputError
        If the folder cannot be written, or another process is writing to it. An existing bundle is
        kept until all files of the new one are complete.
    """
    make_folder(folder)
    with folder_lock(folder):
        remove_leftovers(folder / MADE)
        with temporary_beside(folder / MADE) as temporary:
            temporary.mkdir()
            _make(network, temporary, description, log, tell)
            _move_into_place(temporary, folder)
    return Bundle.load(folder)


def _make(
    network: PixelMiner, folder: Path, description: Description, log: Path | None, tell: Tell
) -> None:
    """Write a bundle's files to an empty folder; the manifest follows once graphs are checked."""
    models, store = _models(network, tell), WeightStore()
    weights = {
        NETWORK: folded_state(network),
        PIXELS: pixel_weights(network),
        ROWS: row_weights(network),
    }
    for prefix, tensors in weights.items():
        for name, tensor in tensors.items():
            store.keep(prefix + name, tensor.numpy())
    names = {name: take_out(model, name, store) for name, model in models.items()}
    store.save(folder / WEIGHTS)
    for name, model in models.items():
        refer(model, names[name], folder / WEIGHTS)
        onnx.save(model, folder / f"{name}.onnx")
    if log is not None and log.exists():
        write_bytes(log.read_bytes(), folder / TRAINING_LOG)
    written = [WEIGHTS, *(f"{name}.onnx" for name in models)]
    manifest = Manifest(
        **vars(description),
        hyperparameters=network.hyperparameters,
        files={name: file_hash(folder / name) for name in written},
        errors={},
    )
    tell("comparing the graphs with PyTorch", 1)
    errors = graph_errors(network, OnnxRuntimeBackend(Bundle(folder, manifest, "")))
    for name, error in errors.items():
        if not error <= TOLERANCE:  # true for NaN too
            raise ModelError(
                f"the graph {name} differs from PyTorch by {error:.2g}: please report it"
            )
    _write(folder, manifest, errors)


def _move_into_place(made: Path, folder: Path) -> None:
    """Replace an existing bundle; the folder has no manifest while the bundle is incomplete."""
    for of_another in (MANIFEST, CARD, TRAINING_LOG):
        (folder / of_another).unlink(missing_ok=True)
    for file in sorted(made.iterdir(), key=lambda file: file.name == MANIFEST):
        move_into_place(file, folder / file.name)


def _models(network: PixelMiner, tell: Tell) -> dict[str, ModelProto]:
    """Export all graphs of a network, by name."""
    suite = graph_suite(network)
    models: dict[str, ModelProto] = {}
    for name, graph in suite.items():
        label = f"exporting the graph {name}, {len(models) + 1} of {len(suite)}"
        tell(label, len(models) / len(suite))
        models[name] = export_graph(graph, network.hyperparameters)
    return models


def _write(folder: Path, manifest: Manifest, errors: dict[str, float]) -> None:
    """Write the manifest, after all other files: a folder without one is not a bundle."""
    values = {
        **manifest.to_json(),
        "errors": {name: float(f"{e:.2g}") for name, e in errors.items()},
    }
    write_json(values, folder / MANIFEST)
