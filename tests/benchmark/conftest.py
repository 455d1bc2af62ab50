"""A small network in PyTorch in place of a bundle."""

from __future__ import annotations

import pytest
import torch

from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_network, folded_state

SMALL = Hyperparameters(channels=2, mixtures=2)


@pytest.fixture(scope="module")
def network() -> PixelMiner:
    torch.manual_seed(2)
    return folded_network(SMALL, folded_state(PixelMiner(SMALL)))
