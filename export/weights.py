"""One file of weights for the network and all graphs of a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.external_data_helper import set_external_data

from pmtool.models.bundle import tensor_places

INLINE_BYTES = 256
"""Constants up to this size stay in the graph's own file."""


class WeightStore:
    """Arrays by name, written as safetensors; graphs share arrays with the same content."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[np.float32]] = {}
        self._names: dict[tuple[bytes, tuple[int, ...]], str] = {}

    def keep(self, name: str, array: NDArray[np.float32]) -> None:
        """Store an array under its own name, even if another array has the same content."""
        self.add(name, array)
        self.arrays[name] = np.ascontiguousarray(array, np.float32)

    def add(self, name: str, array: NDArray[np.float32]) -> str:
        """Store an array unless its content is already there; return the name of that content."""
        array = np.ascontiguousarray(array, np.float32)
        key = (hashlib.sha256(array.tobytes()).digest(), array.shape)
        stored_name = self._names.setdefault(key, name)
        self.arrays.setdefault(stored_name, array)
        return stored_name

    def save(self, path: Path) -> None:
        """Write the file so that everyone can read it: it may be installed for other users."""
        from safetensors.numpy import save

        path.write_bytes(save(self.arrays))


def take_out(model: ModelProto, prefix: str, store: WeightStore) -> dict[str, str]:
    """Add a model's weights to a store; return their names in the store by those in the model."""
    names = {}
    for tensor in _large(model):
        array = numpy_helper.to_array(tensor).astype(np.float32, copy=False)
        names[tensor.name] = store.add(f"{prefix}.{tensor.name}", array)
    return names


def refer(model: ModelProto, names: dict[str, str], weights: Path) -> None:
    """Replace a model's weights by references to their places in a safetensors file beside it."""
    places = tensor_places(weights)
    for tensor in _large(model):
        offset, length = places[names[tensor.name]]
        set_external_data(tensor, weights.name, offset, length)
        tensor.ClearField("raw_data")


def _large(model: ModelProto) -> Iterable[TensorProto]:
    return [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) > INLINE_BYTES
    ]
