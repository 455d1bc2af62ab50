"""Names and sizes of the arrays that the graphs of the cached sampler pass to each other.

The sampler allocates its buffers from them, and the graphs are exported with these names.
A *line* is the input of a convolution of the target, kept for the rows and columns that follow.
A *carry* is the second of the two rows that a transposed convolution makes from one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pmtool.models.hyperparameters import COARSEST, LEVELS, Hyperparameters

COLUMNS = COARSEST
"""Columns that one pass of the pixel graph generates: one column of the coarsest level."""


def depth_of_row(row: int) -> int:
    """Number of levels that a row touches.

    This is 3 for every fourth row, 2 for the other even rows, and 1 for odd rows.
    """
    return max(level + 1 for level in range(LEVELS) if row % 2**level == 0)


class Carries(NamedTuple):
    """Names of the carries of one stack that a row's graphs read and write."""

    read: list[str]
    written: list[str]


def carries(stack: str, depth: int) -> Carries:
    """Carries of a stack (``"v"`` or ``"h"``) in a row that touches ``depth`` levels.

    The carry from the level below the deepest one is read, if there is such a level; the carries
    between the touched levels are written.
    """
    names = [f"{stack}{level}_carry" for level in range(LEVELS - 1)]
    return Carries(names[depth - 1 : depth], names[: depth - 1])


class Line(NamedTuple):
    """Input of a convolution: its name, level and number of channels."""

    name: str
    level: int
    channels: int


@dataclass(frozen=True)
class Layout:
    """Sizes of the arrays for a network of given hyper-parameters."""

    hyperparameters: Hyperparameters

    def gated(self, level: int) -> int:
        """Number of gated layers of a level, in the up and the down pass together."""
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
        """Channels of one stack's shares: one for the first block, then two per gated layer."""
        c = self.hyperparameters.channels
        return [c] + [c, 2 * c] * self.gated(level)

    @property
    def mixture(self) -> int:
        """Number of channels of the known part of the mixture.

        They are logits, means and inverse scales of the components of the outer slices, and mean
        and log-scale of the midpoint.
        """
        return 3 * self.hyperparameters.outer_mixtures + 2

    @property
    def floats_per_pixel(self) -> float:
        """Number of floats in the window graph's planes per pixel of a window."""
        return self.mixture + sum(
            2 * sum(self.shares(level)) / 4.0**level for level in range(LEVELS)
        )
