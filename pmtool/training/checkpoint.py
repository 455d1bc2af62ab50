"""Checkpoints: written atomically, so that a kill at any moment leaves the previous one intact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pmtool.errors import InputError, ModelError, OutputError, UsageError
from pmtool.models.bundle import Bundle
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_state
from pmtool.network.inference import load_network
from pmtool.system.files import move_into_place, temporary_beside

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Write plain values and tensors; raises `OutputError`, leaving the last checkpoint intact."""
    path = folder / CHECKPOINT
    try:
        with temporary_beside(path) as temporary:
            torch.save(state, temporary)
            move_into_place(temporary, path)
    except (OSError, RuntimeError) as error:  # torch's own writer raises no OSError
        remark = "; the last checkpoint is intact" if path.exists() else ""
        raise OutputError(
            f"{path} cannot be written, is the disk full? Make room and go on with --resume{remark}"
        ) from error


def load_state(folder: Path) -> dict[str, Any] | None:
    """Load what `save_checkpoint` wrote; None if there is no file; raises `InputError`."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state = _load(path, damaged(folder))
    if not isinstance(state, dict):
        raise damaged(folder)
    return state


def damaged(folder: Path) -> InputError:
    """The error for a damaged checkpoint of a run."""
    return InputError(f"{folder / CHECKPOINT} is damaged: restore it, or start another run")


def load_checkpoint(path: Path) -> PixelMiner:
    """Load the averaged network of a training checkpoint.

    Raises
    ------
    InputError
        If the file is missing or is not a checkpoint of pmtool.
    """
    other = InputError(
        f"{path} is not a checkpoint of this version's training: give the {CHECKPOINT} of a run"
    )
    state = _load(path, other)
    try:
        network = PixelMiner(Hyperparameters.from_json(state["hyperparameters"]))
        network.load_state_dict(state["averaged"])
    except (LookupError, TypeError, ValueError, RuntimeError, ModelError) as error:
        raise other from error
    return network.eval()


def _load(path: Path, other: InputError) -> Any:
    """Load a file with PyTorch.

    Raises
    ------
    InputError
        If the file cannot be read; ``other`` if its content is not as expected.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): give the file checkpoint.pt"
        ) from error
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        raise other from error


def starting_weights(path: Path, expected: Hyperparameters) -> dict[str, Tensor]:
    """Return the `folded_state` of a model's folder or of a checkpoint, to train it further.

    Raises
    ------
    InputError
        If it cannot be read.
    ModelError
        If the folder is not a complete and unaltered model.
    UsageError
        If its hyper-parameters differ from the expected ones.
    """
    network = load_network(Bundle.load(path)) if path.is_dir() else load_checkpoint(path)
    actual, required = network.hyperparameters.to_json(), expected.to_json()
    changes = [
        f"network.{name}={value}" for name, value in actual.items() if value != required[name]
    ]
    if changes:
        raise UsageError(
            f"{path} is another network: set {', '.join(changes)}, or start from another"
        )
    return folded_state(network)
