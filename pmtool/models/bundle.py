"""A model on disk: a folder with a manifest, the weights, and the graphs that refer to them."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pmtool.errors import ModelError
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.system.hashes import bytes_hash, file_hash

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
NETWORK, PIXELS, ROWS = "network.", "pixels.", "rows."
"""Prefixes in the file of the network's own weights and of those of the loops over pixels and rows.
The loops', and all others, which only graphs refer to, are derived from the network's own."""
CARD, TRAINING_LOG = "README.md", "training.csv"
"""Texts about a model, which a bundle may lack; not hashed, because they affect no voxel."""
_LONGEST = 1 << 20
"""Largest number of bytes in a manifest."""
_NOT_OURS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    ModelError,
    RecursionError,
    TypeError,
    ValueError,
)
"""Errors raised when the JSON is not one of ours."""
DEFAULT = Path(__file__).parent / "default"


@dataclass(frozen=True)
class Description:
    """Description of a model, apart from its files; raises ValueError if no manifest can hold it.

    Attributes
    ----------
    spacing_mm
        Shortest and longest distance from a new slice to its neighbours in training.
    thickness_mm
        Largest thickness of a slice in training.
    """

    name: str
    trained_on: str
    licence: str
    spacing_mm: tuple[float, float]
    thickness_mm: float

    def __post_init__(self) -> None:
        low, high = self.spacing_mm
        if not 0 < low <= high < math.inf:
            raise ValueError(
                f"the spacings must be positive and in order, not {low:g} and {high:g}"
            )
        if not 0 < self.thickness_mm < math.inf:
            raise ValueError(f"{self.thickness_mm:g} mm is not a thickness of a slice")
        if not all(map(str.isprintable, (self.name, self.trained_on, self.licence))):
            raise ValueError("a text holds a line break or another control character")


@dataclass(frozen=True)
class Manifest(Description):
    """Description of a bundle.

    Attributes
    ----------
    files
        SHA-256 of every other file of the bundle, by name.
    errors
        Largest absolute difference of ONNX Runtime from PyTorch at export, by graph.
    """

    hyperparameters: Hyperparameters
    files: dict[str, str]
    errors: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {
            **asdict(self),
            "spacing_mm": list(self.spacing_mm),
            "hyperparameters": self.hyperparameters.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Manifest:
        """The inverse of `to_json`; raises `ModelError` or one of Python's errors."""
        low, high = (float(x) for x in values["spacing_mm"])
        files = {str(name): str(digest) for name, digest in values["files"].items()}
        errors = {str(name): float(error) for name, error in values["errors"].items()}
        if WEIGHTS not in files or not all(map(str.isprintable, errors)):
            raise ModelError("the manifest names no weights, or a graph with a control character")
        typed = {
            **{name: str(values[name]) for name in ("name", "trained_on", "licence")},
            "spacing_mm": (low, high),
            "thickness_mm": float(values["thickness_mm"]),
            "hyperparameters": Hyperparameters.from_json(values["hyperparameters"]),
            "files": files,
            "errors": errors,
        }
        return cls(**{**values, **typed})


class Bundle:
    """A model whose files are complete and unaltered."""

    def __init__(self, folder: Path, manifest: Manifest, digest: str) -> None:
        self.folder, self.manifest, self.hash = folder, manifest, digest

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyper-parameters of the network."""
        return self.manifest.hyperparameters

    @property
    def weights(self) -> Path:
        """Path of the safetensors file."""
        return self.folder / WEIGHTS

    def other_weights(self) -> ModelError:
        """Error for weights that are not those of the network in the manifest."""
        return ModelError(
            f"{self.weights} does not hold the network's weights: export the model again, or train "
            "it again if an older pmtool trained it"
        )

    def graph(self, name: str) -> Path:
        """Path of a graph's ONNX file; raises `ModelError` if the bundle has none."""
        if f"{name}.onnx" not in self.manifest.files:
            raise ModelError(f"the model in {self.folder} has no graph {name}: export it again")
        return self.folder / f"{name}.onnx"

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Bundle:
        """Read and check a bundle, by default the built-in one.

        Raises
        ------
        ModelError
            If a file is missing or altered, or the manifest is not one of ours.
        """
        folder = DEFAULT if folder is None else Path(folder)
        path = folder / MANIFEST
        try:
            content = _read(path)
            manifest = Manifest.from_json(json.loads(content))
        except OSError as error:
            why = f"cannot be read ({error.strerror})" if error.strerror else "is missing"
            raise ModelError(
                f"no model was found in {folder}: {path.name} {why}; give a folder that pmtool "
                "export has written"
            ) from error
        except _NOT_OURS as error:
            raise ModelError(
                f"{path} is not the manifest of a pmtool model: export the model again"
            ) from error
        for name, expected in manifest.files.items():
            _check(folder, name, expected)
        tensor_places(folder / WEIGHTS)
        return cls(folder, manifest, bytes_hash(content))


def tensor_places(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and length in bytes of every tensor of a safetensors file.

    Raises
    ------
    ModelError
        If the file is not a safetensors file.
    """
    try:
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            start = 8 + int.from_bytes(file.read(8), "little")
            if start > end:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(start - 8))
        header.pop("__metadata__", None)
        spans = {name: entry["data_offsets"] for name, entry in header.items()}
        if not all(0 <= first <= last <= end - start for first, last in spans.values()):
            raise ValueError("a tensor lies outside of the file")
        return {name: (start + first, last - first) for name, (first, last) in spans.items()}
    except (OSError, *_NOT_OURS) as error:
        raise ModelError(f"{path} is not a safetensors file: export the model again") from error


def _check(folder: Path, name: str, expected: str) -> None:
    """Raise `ModelError` unless a file of the bundle is what the manifest says."""
    path = folder / name
    if Path(name).name != name or name == ".." or leads_away(path):
        raise ModelError(
            f"the model in {folder} names a file outside of its folder: {name!r}; copy the file "
            "there"
        )
    try:
        if not path.is_file():
            raise FileNotFoundError(name)
        found = file_hash(path)
    except OSError as error:
        raise ModelError(
            f"the model in {folder} is incomplete: {name} cannot be read; export it again"
        ) from error
    if found != expected:
        raise ModelError(f"{path} is damaged or altered: install or export the model again")


def leads_away(path: Path) -> bool:
    """Whether a path is invalid, or a link that is circular or leads outside its folder."""
    try:
        return path.resolve().parent != path.parent.resolve()
    except (OSError, RuntimeError, ValueError):
        return True


def _read(path: Path) -> bytes:
    """The content of a manifest; raises OSError and ValueError."""
    if not path.is_file():
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ValueError("no manifest is so long")
    return content
