"""The two phases of a run: the encoder by itself, then all else with the encoder as it is.

The encoder's steps cost a tenth of the others, its midpoint alone makes a good judge of it, and
what the stacks see and predict, relative to the midpoint, no longer moves while they learn.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from pmtool.network import PixelMiner
from pmtool.training.settings import PhaseSettings, Settings


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes
    ----------
    encoder
        Whether the encoder is trained, or all else.
    settings
        How the weights move.
    first
        Number of the phase's first step in the run.
    """

    encoder: bool
    settings: PhaseSettings
    first: int

    @property
    def last(self) -> int:
        """Steps of the run when the phase is over."""
        return self.first + self.settings.steps

    def parameters(self, network: PixelMiner) -> list[nn.Parameter]:
        """Those that are trained."""
        return [
            parameter
            for name, parameter in network.named_parameters()
            if name.startswith("encoder.") == self.encoder
        ]


def phases(settings: Settings) -> list[Phase]:
    """Of a run; a network without an encoder has one."""
    if not settings.network.encoder:
        return [Phase(False, settings.optimiser, 0)]
    steps = settings.encoder.steps
    return [Phase(True, settings.encoder, 0), Phase(False, settings.optimiser, steps)]


def total_steps(settings: Settings) -> int:
    """Of all phases."""
    return phases(settings)[-1].last
