"""A run on disk: written atomically, so that a kill at any moment leaves the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pmtool.errors import InputError, OutputError

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Write plain values and tensors; raises `OutputError`, with the last checkpoint intact."""
    path = folder / CHECKPOINT
    partial = path.with_name(f".{CHECKPOINT}.partial")
    try:
        torch.save(state, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own writer knows no OSError
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written, is the disk full? Make room and go on with --resume; the "
            "last checkpoint is intact"
        ) from error


def load_state(folder: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, or None where there is nothing; raises `InputError`."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        raise InputError(f"{path} is damaged: restore it, or start another run") from error
    return state
