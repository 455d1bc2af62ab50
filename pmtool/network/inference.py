"""A bundle's network in PyTorch, called with NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pmtool.arrays import Float32s
from pmtool.errors import is_memory_shortage
from pmtool.models.bundle import NETWORK, Bundle
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network.folding import folded_network
from pmtool.network.pixelminer import PixelMiner
from pmtool.pixels import mixture

if TYPE_CHECKING:
    from pmtool.sampling.pairs import Neighbours


@contextmanager
def full_float32() -> Iterator[None]:
    """Turn off TF32 on GPUs, in convolutions (PyTorch's default there) and in matrix products."""
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, False
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        products.allow_tf32 = before


@dataclass(frozen=True)
class ArrayNetwork:
    """A network with the interface of `pmtool.sampling.reference.Network`."""

    network: PixelMiner

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyper-parameters of the network."""
        return self.network.hyperparameters

    @torch.inference_mode()
    def __call__(self, neighbours: Neighbours, target: Float32s) -> mixture.Mixture:
        """See `pmtool.sampling.reference.Network`."""
        above, below, relative_thickness, target_tensor = (
            torch.from_numpy(np.ascontiguousarray(x)).to(self.network.device)
            for x in (*neighbours, target[None, None])
        )
        output = self.network(above, target_tensor, below, relative_thickness)
        return mixture.Mixture(*(part[0].permute(1, 2, 0).cpu().numpy() for part in output))


def load_network(bundle: Bundle) -> PixelMiner:
    """Load the network of a bundle for generation.

    Raises
    ------
    ModelError
        If the weights are not those of the network that the manifest names.
    """
    from safetensors.torch import load_file

    try:
        tensors = load_file(bundle.weights)
        state = {n.removeprefix(NETWORK): t for n, t in tensors.items() if n.startswith(NETWORK)}
        return folded_network(bundle.hyperparameters, state)
    except Exception as error:  # safetensors and torch raise errors of many kinds
        if is_memory_shortage(error):
            raise
        raise bundle.other_weights() from error
