"""Names and sizes of what the graphs of the cached sampler hand to each other.

The driver allocates its buffers from these, the graphs are exported with these names.
A *line* is the input of a convolution of the target, kept for the rows and columns that follow.
A *carry* is the second of the two rows that a transposed convolution makes of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pmtool.models.hyperparameters import Hyperparameters

LEVELS = 3
COLUMNS = 4
"""Columns that one pass of the pixel graph generates: one column of the coarsest level."""


def depth_of_row(row: int) -> int:
    """Levels that a row touches: 3 for every fourth row, 2 for every other second, 1 else."""
    return 3 if row % 4 == 0 else 2 if row % 2 == 0 else 1


class Carries(NamedTuple):
    """Names of the carries of one stack that a row's graphs read and write."""

    read: list[str]
    written: list[str]


def carries(stack: str, depth: int) -> Carries:
    """Carries of a stack (``"v"`` or ``"h"``) in a row that touches ``depth`` levels.

    The level below the deepest one is read, if there is one; those between levels are written.
    """
    names = [f"{stack}{level}_carry" for level in range(LEVELS - 1)]
    return Carries(names[depth - 1 : depth], names[: depth - 1])


class Line(NamedTuple):
    """A convolution's input: its name, level and channels."""

    name: str
    level: int
    channels: int


@dataclass(frozen=True)
class Layout:
    """Sizes for a network of given hyper-parameters."""

    hyperparameters: Hyperparameters

    def gated(self, level: int) -> int:
        """Gated layers of a level, up and down."""
        n = self.hyperparameters.blocks
        return 2 * n if level == LEVELS - 1 else 2 * n + 1

    def lines(self, stack: str, depth: int = LEVELS) -> list[Line]:
        """Lines of a stack (``"v"`` or ``"h"``) at the first ``depth`` levels."""
        c = self.hyperparameters.channels
        lines = []
        for level in range(depth):
            for layer in range(self.gated(level)):
                lines.append(Line(f"{stack}{level}_{layer}_first", level, 2 * c))
                lines.append(Line(f"{stack}{level}_{layer}_second", level, 2 * c))
            if level < LEVELS - 1:
                lines.append(Line(f"{stack}{level}_strided", level, c))
        return lines

    def shares(self, level: int) -> list[int]:
        """Channels of one stack's shares: the first block's, then two for every gated layer."""
        c = self.hyperparameters.channels
        return [c] + [c, 2 * c] * self.gated(level)

    @property
    def mixture(self) -> int:
        """Channels of the known part of the mixture.

        Logits, means and inverse scales of the outer components; mean and log-scale of the
        midpoint.
        """
        return 6 * self.hyperparameters.mixtures + 2

    @property
    def floats_per_pixel(self) -> float:
        """Floats of the window graph's planes for every pixel of a window."""
        return self.mixture + sum(
            2 * sum(self.shares(level)) / 4.0**level for level in range(LEVELS)
        )
