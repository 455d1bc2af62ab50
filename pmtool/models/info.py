"""Text of `pmtool info`: a model's card, its manifest and the end of its training log."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from pmtool.models.bundle import (
    CARD,
    NETWORK,
    TRAINING_LOG,
    Bundle,
    leads_away,
    tensor_places,
)

_FLOAT_BYTES = 4
_LONGEST = 1 << 22
"""Largest number of characters of a text that are read."""


def model_info(folder: Path | None = None) -> str:
    """Describe a model, by default the built-in one.

    Raises
    ------
    ModelError
        If the folder holds no model, or a damaged one.
    """
    bundle = Bundle.load(folder)
    return "\n\n".join([_card(bundle), _facts(bundle), _training(bundle)])


def _card(bundle: Bundle) -> str:
    return _read(bundle, CARD) or f"No model card ({CARD})."


def _facts(bundle: Bundle) -> str:
    manifest = bundle.manifest
    sizes = bundle.hyperparameters.to_json()
    low, high = manifest.spacing_mm
    rows = {
        "name": manifest.name,
        "folder": bundle.folder,
        "hash": bundle.hash,
        "licence": manifest.licence,
        "trained on": manifest.trained_on,
        "distance of slices": f"{low:g} to {high:g} mm, from a new slice to its neighbours",
        "thickness of slices": f"up to {manifest.thickness_mm:g} mm",
        **{name.replace("_", " "): value for name, value in sizes.items()},
        "parameters": f"{_parameters(bundle):,}, weight normalisation folded in",
        "graphs against PyTorch": ", ".join(f"{g} {e:.1e}" for g, e in manifest.errors.items()),
    }
    return _table("Manifest", rows)


def _parameters(bundle: Bundle) -> int:
    """Number of parameters of the network, in float32; the graphs' derived weights do not count."""
    places = tensor_places(bundle.weights)
    own = (length for name, (_, length) in places.items() if name.startswith(NETWORK))
    return sum(own) // _FLOAT_BYTES


def _training(bundle: Bundle) -> str:
    """The last figure in every column; some columns have figures only in some rows."""
    try:
        rows = list(csv.DictReader(_read(bundle, TRAINING_LOG).splitlines()))
    except csv.Error:
        rows = []
    last = {name: value for row in rows for name, value in row.items() if name and value}
    if not last:
        return f"No training log ({TRAINING_LOG})."
    return _table("End of the training log", last)


def _table(title: str, rows: Mapping[str, object]) -> str:
    width = max(map(len, rows))
    return "\n".join([title, *(f"  {name:{width}}  {value}" for name, value in rows.items())])


def _read(bundle: Bundle, name: str) -> str:
    """The text of an optional file of a bundle, without terminal control characters."""
    path = bundle.folder / name
    if leads_away(path) or not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_LONGEST)
    return "".join(x for x in text if x.isprintable() or x in "\n\t").strip()
