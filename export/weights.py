"""One file of weights for the network and all graphs of a bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.external_data_helper import set_external_data

INLINE_BYTES = 256
"""Smaller constants stay in the graph's own file."""


class WeightStore:
    """Arrays by name, every content once; written as safetensors."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[np.float32]] = {}
        self._names: dict[tuple[bytes, tuple[int, ...]], str] = {}

    def add(self, name: str, array: NDArray[np.float32]) -> str:
        """The name under which this content stands in the file."""
        array = np.ascontiguousarray(array, np.float32)
        key = (hashlib.sha256(array.tobytes()).digest(), array.shape)
        known = self._names.setdefault(key, name)
        if known == name:
            self.arrays[name] = array
        return known

    def save(self, path: Path) -> None:
        """Write the file."""
        from safetensors.numpy import save_file

        save_file(self.arrays, path)


def take_out(model: ModelProto, prefix: str, store: WeightStore) -> dict[str, str]:
    """Move a model's weights to the store: names in the store by the model's own."""
    names = {}
    for tensor in _large(model):
        array = numpy_helper.to_array(tensor).astype(np.float32, copy=False)
        names[tensor.name] = store.add(f"{prefix}.{tensor.name}", array)
    return names


def refer(model: ModelProto, names: dict[str, str], weights: Path) -> None:
    """Let a model's weights refer to their places in a safetensors file beside it."""
    places = tensor_places(weights)
    for tensor in _large(model):
        offset, length = places[names[tensor.name]]
        set_external_data(tensor, weights.name, offset, length)
        tensor.ClearField("raw_data")


def tensor_places(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and length in bytes of every tensor of a safetensors file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: (
            8 + size + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
    }


def _large(model: ModelProto) -> Iterable[TensorProto]:
    return [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) > INLINE_BYTES
    ]
