"""What the paper printed of its trial (section 3.4), and what that can have been counts of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from pmtool.trial.statistics import SIGNIFICANT, Share

PARTICIPANTS, ANSWERS = 16, 140
OVERALL = "72"
BY_METHOD = {"nearest": "68.2", "bspline": "70", "windowed_sinc": "75", "linear": "96.3"}
"""Percent of the answers that chose PixelMiner, with the printed digits."""

Counts = dict[str, Share]

INCONSISTENT = (
    "The paper's figures do not fit together as counts of its 140 answers: 96.3 % needs 27 answers "
    "or more against linear, and together with the other three shares it makes PixelMiner's share "
    "of all answers 74 % or more, not 72 %, which may be a mean of participants."
)


def printed(share: Share, text: str) -> bool:
    """Whether a share is printed as ``text``, in percent with as many digits."""
    digits = len(text.partition(".")[2])
    return share.share is not None and f"{100 * share.share:.{digits}f}" == text


def consistent_counts() -> Iterator[Counts]:
    """All counts of 140 answers, by method, that are printed as the paper's shares."""
    *names, last = BY_METHOD
    found = {name: _printed_as(BY_METHOD[name]) for name in BY_METHOD}
    for shares in product(*(found[name] for name in names)):
        left = ANSWERS - sum(share.answers for share in shares)
        for share in found[last]:
            if share.answers == left:
                yield dict(zip(BY_METHOD, (*shares, share), strict=True))


def significant(counts: Counts) -> bool:
    """Whether every method's p is below 0.05, as the paper says."""
    return all(share.p < SIGNIFICANT for share in counts.values())


def pooled(counts: Counts) -> Share:
    """Of all methods."""
    return Share(sum(x.won for x in counts.values()), sum(x.answers for x in counts.values()))


def _printed_as(text: str) -> list[Share]:
    every = (Share(won, n) for n in range(1, ANSWERS) for won in range(n + 1))
    return [share for share in every if printed(share, text)]
