"""The learning rate over a run."""

from __future__ import annotations

import math

from pmtool.training.settings import PhaseSettings


def learning_rate(step: int, settings: PhaseSettings) -> float:
    """Learning rate of a step, counted from 0 in its phase."""
    warmup = min(1.0, (step + 1) / max(settings.warmup, 1))
    decay = {
        "cosine": 0.5 * (1 + math.cos(math.pi * step / settings.steps)),
        "exponential": settings.decay_rate**step,
        "constant": 1.0,
    }
    return settings.learning_rate * warmup * decay[settings.decay]
