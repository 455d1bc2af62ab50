"""Names of the graphs: ``window``, and a kind and a depth for all others, as in ``row2``.

The depth is the number of levels that a row touches, see `layout.depth_of_row`.
"""

from __future__ import annotations

from pmtool.choices import Mode
from pmtool.models.hyperparameters import LEVELS

CHOOSERS = ("quantile", "mean")
"""Kinds of graphs that generate pixels: from a uniform number, or as the mean."""
KINDS = ("row", "known", *CHOOSERS)
DEPTHS = range(1, LEVELS + 1)
GRAPHS = ("window", *(f"{kind}{depth}" for depth in DEPTHS for kind in KINDS))


def kind_and_depth(graph: str) -> tuple[str, int]:
    """Kind and depth of a graph; the window graph has all levels.

    Raises
    ------
    ValueError
        If there is no such graph.
    """
    if graph not in GRAPHS:
        raise ValueError(f"there is no graph {graph!r}: it is one of {', '.join(GRAPHS)}")
    return ("window", LEVELS) if graph == "window" else (graph[:-1], int(graph[-1]))


def chooser_of(mode: Mode) -> str:
    """Kind of the graphs that generate pixels in a mode; the median is a quantile."""
    return "mean" if mode == "mean" else "quantile"


def is_pixel_graph(graph: str) -> bool:
    """Whether a graph generates pixels."""
    return kind_and_depth(graph)[0] in CHOOSERS
