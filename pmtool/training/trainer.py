"""Network, optimiser and averaged weights on Lightning Fabric: steps, validation and state."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pmtool.errors import PmtoolError
from pmtool.network import PixelMiner
from pmtool.network.folding import unfold
from pmtool.network.inference import full_float32
from pmtool.training.crops import Crops, Triplets
from pmtool.training.objective import Losses, Objective
from pmtool.training.phases import Phase, phases
from pmtool.training.schedule import learning_rate
from pmtool.training.settings import Settings

_BATCH = 8
"""Number of crops at once in validation."""


class Trainer:
    """Training on the device of this process, phase by phase.

    What a step does depends only on the settings, its crops and its number.

    Parameters
    ----------
    fabric
        Launched Fabric.
    settings
        Settings of the run.
    start
        Weights to start from instead of random ones, see `starting_weights`.
    """

    def __init__(
        self,
        fabric: Fabric,
        settings: Settings,
        start: dict[str, Tensor] | None = None,
    ) -> None:
        self.fabric, self.settings, self.step, self.patches = fabric, settings, 0, 0
        torch.manual_seed(settings.seed)
        self.network = PixelMiner(settings.network, settings.optimiser.dropout).to(fabric.device)
        if start is not None:
            unfold(start, self.network)
        self.averaged = AveragedModel(self.network)
        self.result = cast(PixelMiner, self.averaged.module)
        self._sums = torch.zeros(4, device=fabric.device)
        """Sums since the last `figures`: steps, bits, midpoint's bits and norms of the gradient."""
        self._enter(phases(settings)[0])

    def enter(self, phase: Phase) -> None:
        """Start or continue a phase; after the encoder's phase, its averaged weights are used."""
        if phase != self.phase:
            if self.phase.encoder_alone:
                self.network.load_state_dict(self.result.state_dict())
            self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        self.phase, phase_settings = phase, phase.settings
        self.network.requires_grad_(False)
        trained = phase.parameters(self.network)
        for parameter in trained:
            parameter.requires_grad_()
        self.averaged.multi_avg_fn = get_ema_multi_avg_fn(phase_settings.averaging)
        self._adam = torch.optim.Adam(
            trained, phase_settings.learning_rate, phase_settings.betas, fused=True
        )
        objective = Objective(
            self.network,
            encoder_alone=phase.encoder_alone,
            joint=phase.joint,
            context_noise=self.settings.optimiser.context_noise,
        )
        wish = self.settings.optimiser.compile
        if wish or (wish is None and self.fabric.device.type == "cuda"):
            objective.compile()
        self._objective, self._optimiser = self.fabric.setup(objective, self._adam)

    def train_step(self, crops: Triplets) -> None:
        """Do one step on this process's crops."""
        phase_settings = self.phase.settings
        torch.manual_seed(self._step_seed())
        self._objective.train()
        losses: Losses = self._objective(self.fabric.to_device(crops))
        self._optimiser.zero_grad()
        self.fabric.backward(losses.total)
        norm = self.fabric.clip_gradients(
            self._objective,
            self._optimiser,
            max_norm=phase_settings.clip_norm or math.inf,
            error_if_nonfinite=False,
        )
        assert norm is not None
        self._adam.param_groups[0]["lr"] = learning_rate(
            self.step - self.phase.first, phase_settings
        )
        self._optimiser.step()
        self.averaged.update_parameters(self.network)
        self._sums += torch.stack([torch.ones_like(norm), *losses[1:3], norm])
        self.step += 1
        self.patches += phase_settings.patches

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return float(self._adam.param_groups[0]["lr"])

    def figures(self) -> dict[str, float]:
        """Return means over the steps since the last call; raises `PmtoolError` if not finite."""
        sums = self.fabric.all_reduce(self._sums, reduce_op="sum")
        assert isinstance(sums, Tensor)
        count, bits, midpoint, norm = sums.tolist()
        self._sums = torch.zeros_like(self._sums)
        if not math.isfinite(bits + norm):
            raise PmtoolError(
                f"the loss is not finite at step {self.step}: start again with a lower "
                "learning_rate"
            )
        means = {"training_bits": bits / count, "gradient_norm": norm / count}
        if self.settings.network.encoder:
            means["training_midpoint_bits"] = midpoint / count
        return means

    @torch.no_grad()
    def validate(self, crops: Crops) -> dict[str, float]:
        """Validate the averaged weights on fixed crops, which the processes share.

        Validation runs in float32, as the sampler does; in bfloat16 the same weights would look
        worse than they are.
        """
        objective = Objective(self.result, encoder_alone=self.phase.encoder_alone).eval()
        sums = torch.zeros(4, device=self.fabric.device)
        with full_float32():
            parts = (part.to(self.fabric.device).split(_BATCH) for part in crops[0])
            for batch in map(Triplets._make, zip(*parts, strict=True)):
                losses = torch.stack(objective(batch)[1:])
                sums += len(batch.slices) * torch.cat((torch.ones_like(losses[:1]), losses))
        reduced = self.fabric.all_reduce(sums, reduce_op="sum")
        assert isinstance(reduced, Tensor)
        count, bits, midpoint, mae = reduced.tolist()
        means = {"validation_bits": bits / count}
        if self.settings.network.encoder:
            means["validation_midpoint_bits"] = midpoint / count
            means["validation_midpoint_mae_hu"] = mae / count
        return means

    def state(self) -> dict[str, Any]:
        """Return plain values and tensors for a checkpoint, which `pmtool export` reads too."""
        return {
            "hyperparameters": self.settings.network.to_json(),
            "step": self.step,
            "patches": self.patches,
            "phase": self.phase.first,
            "network": self.network.state_dict(),
            "averaged": self.result.state_dict(),
            "averaged_count": self.averaged.n_averaged,
            "optimiser": self._adam.state_dict(),
            "sums": self._sums,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the state of a trainer with the same settings, a result of `state`.

        Raises
        ------
        LookupError, TypeError, ValueError, RuntimeError
            If it is not such a state.
        """
        self._enter({p.first: p for p in phases(self.settings)}[state["phase"]])
        self.network.load_state_dict(state["network"])
        self.result.load_state_dict(state["averaged"])
        self.averaged.n_averaged.copy_(state["averaged_count"])
        self._adam.load_state_dict(state["optimiser"])
        self._sums.copy_(state["sums"])
        self.step, self.patches = state["step"], state["patches"]

    def _step_seed(self) -> int:
        """Seed for dropout and for the noise on the context."""
        numbers = (self.settings.seed, self.step, self.fabric.global_rank)
        return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
