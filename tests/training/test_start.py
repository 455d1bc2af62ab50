"""Training that goes on from the weights of another run, or of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pmtool.models.bundle import DEFAULT, Bundle
from pmtool.network.inference import load_network
from pmtool.training.checkpoint import CHECKPOINT, load_checkpoint
from pmtool.training.crops import Triplets
from pmtool.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

Train = Callable[..., int]
Rows = Callable[[Path], list[dict[str, str]]]
AssertEqual = Callable[[Path, Path], None]


def steps(number: int) -> list[str]:
    return ["--set", f"encoder.steps={number}", "--set", f"optimiser.steps={number}"]


def test_a_checkpoint(given: list[str], out: Path, whole: Path, train: Train, rows: Rows) -> None:
    """Adam's first step from a checkpoint is small: the midpoint is at once as good."""
    start = ("--start", whole / CHECKPOINT, *steps(1), "--set", "validation.every=1")
    assert train(given, out, *start, "--set", "encoder.learning_rate=1e-9") == 0
    first, last = rows(out)[0], rows(whole)[-1]
    name = "validation_midpoint_bits"
    assert float(first[name]) == pytest.approx(float(last[name]), abs=1e-4)


def test_killed_before_the_first_step(
    given: list[str], out: Path, whole: Path, train: Train, assert_equal_runs: AssertEqual
) -> None:
    """The run keeps what it started from: it goes on without --start."""
    start = ("--start", whole / CHECKPOINT)
    assert train(given, out, *start) == 0
    other = out.with_name("other")

    def killed(trainer: Trainer, crops: Triplets) -> None:
        raise SystemError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", killed)
        assert train(given, other, *start) == 1
    assert train(given, other, "--resume") == 0
    assert_equal_runs(other, out)


def test_the_model_that_ships(given: list[str], out: Path, train: Train) -> None:
    """Its folded weights are weights of the network in training: same function."""
    network = Bundle.load().hyperparameters.to_json()
    same = [part for n, v in network.items() for part in ("--set", f"network.{n}={v}")]
    still = ("--set", "encoder.learning_rate=1e-12", "--set", "optimiser.learning_rate=1e-12")
    assert train(given, out, "--start", DEFAULT, *same, *still, *steps(1)) == 0
    given_to_both = *(torch.rand(3, 1, 1, 16, 16) - 0.5), torch.rand(1, 1, 1, 1)
    found, expected = load_checkpoint(out / CHECKPOINT), load_network(Bundle.load())
    with torch.no_grad():
        for one, other in zip(found(*given_to_both), expected(*given_to_both), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_refusals(
    given: list[str], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], train: Train
) -> None:
    for code, part, start in (
        (3, "cannot be read", tmp_path / "missing.pt"),
        (3, "is not a checkpoint", given[given.index("--config") + 1]),
        (3, "no model was found in", tmp_path),
        (2, "is another network: set network.channels=16", DEFAULT),
    ):
        assert train(given, out, "--start", start) == code
        assert part in capsys.readouterr().err
        assert not (out / CHECKPOINT).exists()
