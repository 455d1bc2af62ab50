"""The results that the paper prints of its trial (section 3.4)."""

from __future__ import annotations

PARTICIPANTS, ANSWERS = 16, 140
OVERALL = "72"
BY_METHOD = {"nearest": "68.2", "bspline": "70", "windowed_sinc": "75", "linear": "96.3"}
"""Percentages of answers that chose PixelMiner, by the other method, with the printed digits."""

INCONSISTENT = (
    "The paper's figures do not fit together as counts of its 140 answers: 96.3 % needs 27 answers "
    "or more against linear, and together with the other three shares it makes PixelMiner's share "
    "of all answers 74 % or more, not 72 %, which may be a mean of participants."
)
