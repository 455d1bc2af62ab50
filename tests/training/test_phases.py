"""Which weights move in which steps of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pmtool.network import PixelMiner
from pmtool.training.checkpoint import CHECKPOINT, load_checkpoint
from pmtool.training.phases import Phase, phases, total_steps
from pmtool.training.settings import load_settings

pytestmark = pytest.mark.usefixtures("one_thread")

Train = Callable[..., int]


def wanted(*changes: str) -> list[Phase]:
    return phases(load_settings("compact", None, ["network.channels=2", *changes]))


def test_the_encoder_first() -> None:
    first, second = wanted("encoder.steps=3", "optimiser.steps=5")
    assert (first.encoder, first.first, first.last) == (True, 0, 3)
    assert (second.encoder, second.first, second.last) == (False, 3, 8)


def test_what_has_no_steps_is_left_out() -> None:
    assert [phase.encoder for phase in wanted("encoder.steps=0")] == [False]
    assert [phase.encoder for phase in wanted("optimiser.steps=0")] == [True]
    assert [phase.encoder for phase in wanted("network.encoder=0")] == [False]
    settings = load_settings("compact", None, ["encoder.steps=3", "optimiser.steps=0"])
    assert total_steps(settings) == 3


def test_jointly_or_not() -> None:
    network = PixelMiner(load_settings("compact", None, ["network.channels=2"]).network)
    encoder = {id(p) for p in network.encoder.parameters()}
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
    same = [
        torch.equal(*pair) for pair in zip(before.parameters(), after.parameters(), strict=True)
    ]
    assert not any(same) if joint else all(same)
