"""What a training step minimises, against closed forms."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric

from pmtool.errors import PmtoolError
from pmtool.models.hyperparameters import Hyperparameters
from pmtool.network import Mixture, PixelMiner, bits_per_pixel, standard_deviation
from pmtool.training.crops import Triplets
from pmtool.training.objective import Objective
from pmtool.training.settings import load_settings
from pmtool.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("encoder", [0, 4])
def test_losses(encoder: int) -> None:
    torch.manual_seed(0)
    hyperparameters = Hyperparameters(channels=2, mixtures=1, bits=8, encoder=encoder)
    network = PixelMiner(hyperparameters)
    triplets = Triplets(torch.randint(0, 256, (2, 3, 16, 16)) / 255 * 2 - 1, torch.rand(2, 1, 1, 1))
    losses = Objective(network, encoder_alone=False)(triplets)
    above, target, below = triplets.slices.split(1, dim=1)
    bits = bits_per_pixel(network(above, target, below, triplets.relative_thickness), target, 8)
    torch.testing.assert_close(losses.total, bits)
    torch.testing.assert_close(losses.bits, bits.detach())
    assert not losses.bits.requires_grad
    if not encoder:
        assert losses.midpoint_bits == losses.midpoint_mae == 0
        return
    linear = (above + below) / 2  # the encoder starts there
    error = (target - linear).abs().mean() * 4095 / 2
    torch.testing.assert_close(losses.midpoint_mae, error)
    logistic = Mixture(torch.zeros_like(linear), linear, torch.full_like(linear, -4))
    torch.testing.assert_close(losses.midpoint_bits, bits_per_pixel(logistic, target, 8))
    alone = Objective(network, encoder_alone=True)(triplets)
    assert alone.bits == alone.midpoint_bits == losses.midpoint_bits
    torch.testing.assert_close(alone.total, alone.bits + error / 50)
    both = Objective(network, encoder_alone=False, joint=True)(triplets)
    assert (both.bits, both.midpoint_bits) == (losses.bits, losses.midpoint_bits)
    torch.testing.assert_close(both.total, losses.total + alone.total)


def test_noise_on_the_pixels_before() -> None:
    """The network sees other pixels than it is to predict, in training alone."""
    network = PixelMiner(Hyperparameters(channels=2, mixtures=1, encoder=4))
    triplets = Triplets(
        torch.randint(0, 4096, (2, 3, 16, 16)) / 4095 * 2 - 1, torch.rand(2, 1, 1, 1)
    )
    above, target, below = triplets.slices.split(1, dim=1)
    objective = Objective(network, encoder_alone=False, context_noise=0.3)
    torch.manual_seed(1)
    found = objective(triplets)
    torch.manual_seed(1)
    strength, noise = torch.rand(2, 1, 1, 1), torch.randn(2, 1, 16, 16)
    deviation = standard_deviation(network(above, target, below, triplets.relative_thickness))
    mixture = network(
        above, target + 0.3 * strength * noise * deviation, below, triplets.relative_thickness
    )
    torch.testing.assert_close(found.bits, bits_per_pixel(mixture, target, 12).detach())
    plain = Objective(network, encoder_alone=False)(triplets)
    assert found.bits != plain.bits
    assert found.midpoint_bits == plain.midpoint_bits
    assert objective.eval()(triplets).bits == plain.bits


def test_a_loss_that_is_not_finite() -> None:
    settings = load_settings("compact", None, ["network.channels=2", "network.encoder=0"])
    fabric = Fabric(accelerator="cpu", devices=1)
    trainer = Trainer(fabric, settings)
    with torch.no_grad():
        next(trainer.network.output.parameters()).fill_(float("nan"))
    trainer.train_step(Triplets(torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 1, 1)))
    with pytest.raises(PmtoolError, match="is not finite at step 1"):
        trainer.figures()


@pytest.mark.parametrize(("setting", "compiled"), [("null", False), ("true", True)])
def test_only_a_wish_compiles_the_network_on_a_cpu(
    setting: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[Objective]()
    monkeypatch.setattr(Objective, "compile", lambda self: calls.append(self))
    changes = ["network.channels=2", "network.encoder=0", f"optimiser.compile={setting}"]
    Trainer(Fabric(accelerator="cpu", devices=1), load_settings("compact", None, changes))
    assert bool(calls) == compiled
