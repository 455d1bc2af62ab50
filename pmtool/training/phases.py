"""The two phases of a run: the encoder by itself, then everything else, with or without it.

A step of the encoder costs less than half of the other steps, and its midpoint suffices to judge
it. If it is then kept fixed, the inputs and targets of the stacks, both relative to the midpoint,
no longer move while the stacks learn. If it is trained with them (``optimiser.joint``), it learns
what they need.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from pmtool.network import PixelMiner
from pmtool.training.settings import PhaseSettings, Settings


@dataclass(frozen=True)
class Phase:
    """A phase of a run.

    Attributes
    ----------
    encoder_alone
        Whether the encoder is trained by itself, by its midpoint.
    settings
        Settings of the optimiser in this phase.
    first
        Number of the phase's first step in the run.
    joint
        Whether the encoder is trained together with everything else.
    """

    encoder_alone: bool
    settings: PhaseSettings
    first: int
    joint: bool = False

    @property
    def last(self) -> int:
        """Number of steps that the run has done when the phase is over."""
        return self.first + self.settings.steps

    def parameters(self, network: PixelMiner) -> list[nn.Parameter]:
        """Parameters of a network that are trained in this phase.

        Those of the encoder that its midpoint does not depend on are trained with the stacks.
        """
        return [
            parameter
            for name, parameter in network.named_parameters()
            if self.joint or _of_midpoint(name) == self.encoder_alone
        ]


def _of_midpoint(name: str) -> bool:
    return name.startswith("encoder.") and not name.startswith("encoder.relative.")


def phases(settings: Settings) -> list[Phase]:
    """Phases of a run that have steps; a network without an encoder has no phase for it."""
    first = settings.encoder.steps if settings.network.encoder else 0
    encoder = [Phase(True, settings.encoder, 0)] if first else []
    rest = Phase(False, settings.optimiser, first, joint=settings.optimiser.joint)
    return [*encoder, rest] if settings.optimiser.steps else encoder


def total_steps(settings: Settings) -> int:
    """Number of steps in all phases."""
    return phases(settings)[-1].last
