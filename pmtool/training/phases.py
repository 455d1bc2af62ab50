"""The two phases of a run: the encoder by itself, then all else, with the encoder or without.

The encoder's steps cost a tenth of the others, and its midpoint alone makes a good judge of it.
Where it stays as it is then, what the stacks see and predict, relative to the midpoint, no longer
moves while they learn; where it learns with them (``optimiser.joint``), it finds what they need.
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
        Whether the encoder is trained by itself, by its midpoint.
    settings
        How the weights move.
    first
        Number of the phase's first step in the run.
    joint
        Whether the encoder is trained with all else.
    """

    encoder: bool
    settings: PhaseSettings
    first: int
    joint: bool = False

    @property
    def last(self) -> int:
        """Steps of the run when the phase is over."""
        return self.first + self.settings.steps

    def parameters(self, network: PixelMiner) -> list[nn.Parameter]:
        """Parameters that are trained."""
        return [
            parameter
            for name, parameter in network.named_parameters()
            if self.joint or name.startswith("encoder.") == self.encoder
        ]


def phases(settings: Settings) -> list[Phase]:
    """Phases of a run that have steps; a network without an encoder has no phase for one."""
    first = settings.encoder.steps if settings.network.encoder else 0
    encoder = [Phase(True, settings.encoder, 0)] if first else []
    rest = Phase(False, settings.optimiser, first, joint=settings.optimiser.joint)
    return [*encoder, rest] if settings.optimiser.steps else encoder


def total_steps(settings: Settings) -> int:
    """Number of steps in all phases."""
    return phases(settings)[-1].last
