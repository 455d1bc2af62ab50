"""Which weights move in which steps of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pmtool.network import PixelMiner
from pmtool.network.encoder import Encoder
from pmtool.training.checkpoint import CHECKPOINT, load_checkpoint
from pmtool.training.phases import Phase, phases, total_steps
from pmtool.training.settings import load_settings

pytestmark = pytest.mark.usefixtures("one_thread")

Train = Callable[..., int]


def wanted(*changes: str) -> list[Phase]:
    return phases(load_settings("compact", None, ["network.channels=2", *changes]))


def test_the_encoder_first() -> None:
    first, second = wanted("encoder.steps=3", "optimiser.steps=5")
    assert (first.encoder_alone, first.first, first.last) == (True, 0, 3)
    assert (second.encoder_alone, second.first, second.last) == (False, 3, 8)


def test_what_has_no_steps_is_left_out() -> None:
    assert [phase.encoder_alone for phase in wanted("encoder.steps=0")] == [False]
    assert [phase.encoder_alone for phase in wanted("optimiser.steps=0")] == [True]
    assert [phase.encoder_alone for phase in wanted("network.encoder=0")] == [False]
    settings = load_settings("compact", None, ["encoder.steps=3", "optimiser.steps=0"])
    assert total_steps(settings) == 3


def midpoint_parameters(encoder: Encoder) -> dict[str, nn.Parameter]:
    """Parameters on which the midpoint depends; the others are trained with the stacks."""
    midpoint = encoder(*torch.zeros(2, 1, 1, 8, 8), torch.ones(1, 1, 1, 1))
    parameters = dict(encoder.named_parameters())
    total = midpoint.mean.sum() + midpoint.log_scale.sum()
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    pairs = zip(parameters.items(), gradients, strict=True)
    return {name: p for (name, p), gradient in pairs if gradient is not None}


def test_jointly_or_not() -> None:
    network = PixelMiner(load_settings("compact", None, ["network.channels=2"]).network)
    encoder = {id(p) for p in midpoint_parameters(network.encoder).values()}
    everything = {id(p) for p in network.parameters()}
    for joint in (False, True):
        first, second = wanted(f"optimiser.joint={joint}")
        assert {id(p) for p in first.parameters(network)} == encoder
        rest = {id(p) for p in second.parameters(network)}
        assert rest == (everything if joint else everything - encoder)


@pytest.mark.parametrize("joint", [False, True])
def test_a_run_moves_them(
    given: list[str], out: Path, whole: Path, train: Train, joint: bool
) -> None:
    """All averaged weights of a run from another's, compared with where it began."""
    changes = (f"optimiser.joint={str(joint).lower()}", "encoder.steps=0")
    options = [part for change in changes for part in ("--set", change)]
    assert train(given, out, "-q", "--start", whole / CHECKPOINT, *options) == 0
    before, after = (load_checkpoint(run / CHECKPOINT).encoder for run in (whole, out))
    changed = dict(after.named_parameters())
    moved = {n for n, p in before.named_parameters() if not torch.equal(p, changed[n])}
    assert moved == set(changed) - (set() if joint else set(midpoint_parameters(before)))
