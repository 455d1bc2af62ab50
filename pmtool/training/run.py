"""A training run that can be stopped at any step and taken up again."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pmtool.hyperparameters import Hyperparameters
from pmtool.network import PixelMiner, bits_per_pixel
from pmtool.training.crops import Crops

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"


@dataclass(frozen=True)
class Settings:
    """How to train; the defaults are those of the compact model that ships."""

    steps: int = 6600
    patches: int = 2
    learning_rate: float = 2e-3
    warmup: int = 100
    betas: tuple[float, float] = (0.95, 0.9995)
    clip_norm: float = 1.0
    averaging: float = 0.998
    dropout: float = 0.0
    seed: int = 0
    every: int = 250
    validation_patches: int = 64


class Run:
    """Network, optimiser and averaged weights, with their checkpoint in ``folder``."""

    def __init__(self, folder: Path, hyperparameters: Hyperparameters, settings: Settings) -> None:
        self.folder, self.settings, self.hyperparameters = folder, settings, hyperparameters
        torch.manual_seed(settings.seed)
        self.network = PixelMiner(hyperparameters, settings.dropout)
        self.averaged = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging)
        )
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), settings.learning_rate, settings.betas
        )
        self.step = 0
        self.seconds = 0.0
        if (folder / CHECKPOINT).exists():
            self._load()

    def train(self, crops: Crops, validation: Crops) -> None:
        """Train up to the last step, with a checkpoint and a line in the log now and then."""
        total, start, losses = self.settings.steps, time.monotonic(), list[float]()
        spent = self.seconds
        while self.step < total:
            losses.append(self._step(crops))
            if self.step % self.settings.every == 0 or self.step == total:
                self.seconds = spent + time.monotonic() - start
                self._log(sum(losses) / len(losses), self.evaluate(validation))
                self.save()
                losses.clear()

    def _step(self, crops: Crops) -> float:
        settings = self.settings
        batch = torch.from_numpy(crops.batch(settings.patches, (settings.seed, self.step)))
        torch.manual_seed(settings.seed << 32 | self.step)  # of the dropout
        self.network.train()
        loss = self._loss(self.network, batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self.optimiser.param_groups[0]["lr"] = settings.learning_rate * self._decay(self.step)
        self.optimiser.step()
        self.averaged.update_parameters(self.network)
        self.step += 1
        return float(loss.detach())

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        above, target, below = batch.unbind(dim=1)
        slices = [s.unsqueeze(1) for s in (above, target, below)]
        with torch.autocast("cpu", torch.bfloat16, enabled=torch.is_grad_enabled()):
            mixture = network(*slices)
        return bits_per_pixel(mixture, slices[1], self.hyperparameters.bits)

    def evaluate(self, validation: Crops) -> float:
        """Bits per pixel of the averaged weights on fixed crops of the validation scans.

        In float32, as the sampler runs; in bfloat16 the same weights look worse than they are.
        """
        self.averaged.eval()
        count = self.settings.validation_patches
        batches = [validation.batch(8, (1, i), flip=False) for i in range(count // 8)]
        with torch.no_grad():
            losses = [float(self._loss(self.averaged, torch.from_numpy(b))) for b in batches]
        return sum(losses) / len(losses)

    def _decay(self, step: int) -> float:
        """The learning rate in units of its setting."""
        warmup = min(1.0, (step + 1) / self.settings.warmup)
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.settings.steps)))

    def save(self) -> None:
        """Write the checkpoint atomically."""
        state = {
            "hyperparameters": self.hyperparameters.to_json(),
            "settings": asdict(self.settings),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "averaged": self.averaged.module.state_dict(),
            "averaged_count": self.averaged.n_averaged,
            "optimiser": self.optimiser.state_dict(),
        }
        partial = self.folder / (CHECKPOINT + ".partial")
        torch.save(state, partial)
        partial.replace(self.folder / CHECKPOINT)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self.folder / CHECKPOINT, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.averaged.module.load_state_dict(state["averaged"])
        self.averaged.n_averaged.copy_(state["averaged_count"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _log(self, training: float, validation: float) -> None:
        row = {
            "step": self.step,
            "patches": self.step * self.settings.patches,
            "seconds": round(self.seconds, 1),
            "training_bits": round(training, 4),
            "validation_bits": round(validation, 4),
        }
        path = self.folder / LOG
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
