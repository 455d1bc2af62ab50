"""Folding weight normalisation: plain weights instead of magnitudes and directions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network.pixelminer import PixelMiner


def folded_state(network: PixelMiner) -> dict[str, Tensor]:
    """Return weights and biases by name, with weight normalisation folded in."""
    return {
        f"{name}.{kind}": getattr(module, kind).detach().clone()
        for name, module in network.named_modules()
        for kind in ("weight", "bias")
        if isinstance(getattr(module, kind, None), Tensor)
    }


def folded_network(hyperparameters: Hyperparameters, state: dict[str, Tensor]) -> PixelMiner:
    """Create a network for generation from a `folded_state`.

    Raises
    ------
    RuntimeError
        If the weights' names or shapes are not those of the network.
    """
    network = PixelMiner(hyperparameters)
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def unfold(state: dict[str, Tensor], network: PixelMiner) -> None:
    """Set the weights of a network in training from a `folded_state` of the same size."""
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        module = network.get_submodule(layer)
        if parametrize.is_parametrized(module, kind):
            moved = tensor.to(getattr(module, kind).device)  # PyTorch would not move it
            setattr(module, kind, moved)  # also derives magnitude and direction
        else:
            getattr(module, kind).copy_(tensor)
