"""Weights with and without weight normalisation, on any device."""

from __future__ import annotations

import pytest
import torch

from pmtool.models.bundle import Bundle
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_state, unfold
from pmtool.network.inference import load_network

TINY = Hyperparameters(channels=4, mixtures=2, encoder=4)


def test_unfolding_undoes_folding() -> None:
    one, other = PixelMiner(TINY), PixelMiner(TINY)
    state = folded_state(one)
    unfold(state, other)
    for name, tensor in folded_state(other).items():
        torch.testing.assert_close(tensor, state[name])


def test_memory_that_is_short_is_no_damaged_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("safetensors.torch.load_file", short)
    with pytest.raises(MemoryError):
        load_network(Bundle.load())


def test_weights_go_to_the_networks_device() -> None:
    """PyTorch refuses tensors of two devices, here of the CPU and of none."""
    network = PixelMiner(TINY).to("meta")
    unfold(folded_state(PixelMiner(TINY)), network)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
