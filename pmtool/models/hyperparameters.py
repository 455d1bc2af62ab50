"""Hyper-parameters: what defines a PixelMiner network apart from its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pmtool.errors import ModelError

LEVELS = 3
"""Number of resolutions of the network, each half the previous one."""
COARSEST = 1 << (LEVELS - 1)
"""Pixels that one of the coarsest resolution covers in each direction."""
ENCODER_MARGIN = 16
"""Pixels around a window that the encoder sees."""
RESIDUAL_MAX = 16.0
"""Limit of a pixel's distance from the midpoint as the stacks see it, in units of the midpoint's
scale."""
COMPONENT_MAX = 4.0
"""Limit of a component mean's distance from the midpoint, in units of the midpoint's scale.

Without it, samples can drift into streaks and coarse noise, as each pixel follows earlier ones.
"""
COMPONENT_LOG_SCALE_MAX = 0.0
"""Limit of a component's log-scale relative to the midpoint's. Components rely on more information
than the midpoint, so none should be wider.

Without it, an outlying pixel is occasionally drawn, and leads later pixels further astray.
"""
LOG_SCALE_MIN, LOG_SCALE_MAX = -7.0, 0.0
"""Limits of the midpoint's log-scale; the lower one also applies to the components."""
_LARGEST = (1 << 15) - 1
"""Upper limit of every hyper-parameter: HU are kept as int16, and no network is so wide."""


@dataclass(frozen=True)
class Hyperparameters:
    """The size of a network and the meaning of its input and output.

    Attributes
    ----------
    channels
        Feature maps of every layer.
    blocks
        Gated layers at each resolution, *n* in the paper's figure 1B.
    mixtures
        Logistic components for each depth that predicts a pixel, *K*: the target alone with an
        encoder, and otherwise all three, as in the paper.
    bits
        Grey levels are ``2**bits``; the paper used 8.
    hu_window
        The lowest and highest HU, mapped to -1 and +1.
    encoder
        Feature maps of the non-causal encoder at full resolution; 0 for none, as in the paper. Only
        without an encoder do the outer slices pass through the stacks.
    """

    channels: int
    blocks: int = 1
    mixtures: int = 10
    bits: int = 12
    hu_window: tuple[int, int] = (-1024, 3071)
    encoder: int = 0

    def __post_init__(self) -> None:
        sizes = self.channels, self.blocks, self.mixtures, self.bits, self.encoder
        numbers = (*sizes, *self.hu_window)
        if not all(type(number) is int and abs(number) <= _LARGEST for number in numbers):
            raise ModelError(f"hyper-parameters are whole numbers up to {_LARGEST}, not {self}")
        if min(self.channels, self.blocks, self.mixtures) < 1:
            raise ModelError(f"channels, blocks and mixtures must be positive, not {self}")
        if self.encoder < 0:
            raise ModelError(f"the encoder cannot have {self.encoder} channels")
        if not 1 <= self.bits <= 16:
            raise ModelError(f"bits must lie between 1 and 16, not {self.bits}")
        if self.hu_window[0] >= self.hu_window[1]:
            raise ModelError(f"the HU window {self.hu_window} is empty")

    @property
    def levels(self) -> int:
        """Number of grey levels."""
        return 1 << self.bits

    @property
    def outer_mixtures(self) -> int:
        """Components of a pixel's mixture that the outer slices give: none with an encoder."""
        return 0 if self.encoder else 2 * self.mixtures

    @property
    def target_mixtures(self) -> slice:
        """Places of the target's own components in a mixture; those of the slice above precede."""
        first = self.outer_mixtures // 2
        return slice(first, first + self.mixtures)

    @property
    def margin(self) -> int:
        """Pixels of the neighbours that the encoder sees around a window, on every side."""
        return ENCODER_MARGIN if self.encoder else 0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Hyperparameters:
        """The inverse of `to_json`; raises `ModelError` for unknown or missing names."""
        try:
            low, high = values["hu_window"]
            return cls(**{**values, "hu_window": (low, high)})
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the hyper-parameters are not ours: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return {**asdict(self), "hu_window": list(self.hu_window)}


def encoder_widths(channels: int) -> list[int]:
    """Feature maps of an encoder of a number of channels, by level."""
    return [2 * channels, 2 * channels, 4 * channels]


PAPER = Hyperparameters(channels=128)
COMPACT = Hyperparameters(channels=16, encoder=32)
PRESETS = {"paper": PAPER, "compact": COMPACT}
