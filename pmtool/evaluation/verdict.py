"""The result of an evaluation in one sentence."""

from __future__ import annotations

from collections.abc import Callable

from pmtool.evaluation.methods import PIXELMINER
from pmtool.evaluation.summary import Figures
from pmtool.evaluation.tables import label


def verdict(figures: Figures) -> str:
    """Name the two methods nearest to the truth in texture, edges and pixels, with their figures.

    PixelMiner and its place are added if it is neither first nor second.

    Parameters
    ----------
    figures
        Figures from `pmtool.evaluation.summary.summary`.
    """
    clauses = [
        _clause(figures, "texture", "texture_nrmse", "NRMSE", float),
        _clause(figures, "the number of edges", "edge_share", "edge share", _from_half),
        _clause(figures, "each pixel", "mae_hu", "MAE in HU", float),
    ]
    parts = [clause for clause in clauses if clause]
    return f"Nearest to the truth {'; '.join(parts)}." if parts else "Nothing could be compared."


def _clause(
    figures: Figures, what: str, key: str, name: str, error: Callable[[float], float]
) -> str | None:
    values = {m: x for m, row in figures.items() if (x := row[key]) is not None}
    if not values:
        return None
    order = sorted(values, key=lambda method: error(values[method]))
    methods = order[:2] + [m for m in order[2:] if m == PIXELMINER]
    places = [f"{label(m)} {values[m]:.3g}{_place(order.index(m) + 1)}" for m in methods]
    return f"in {what} ({name}): {', '.join(places)}"


def _place(number: int) -> str:
    return f" in place {number}" if number > 2 else ""


def _from_half(share: float) -> float:
    return abs(share - 0.5)
