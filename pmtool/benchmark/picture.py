"""Picture of a benchmark: where the time goes, and how it grows with the scan."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING

from pmtool.benchmark.floor import PARTS
from pmtool.benchmark.report import Report, Run
from pmtool.benchmark.scaling import PAIRS, Scaling
from pmtool.evaluation.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = (5.5, 3.8)
"""Width and height of a panel in inches."""


def draw(report: Report) -> bytes:
    """Draw a report's runs, and its scaling if it has one; return a PNG."""
    from matplotlib.figure import Figure

    panels = 1 if report.scaling is None else 2
    figure = Figure(figsize=(PANEL[0] * panels, PANEL[1]), layout="constrained")
    draw_runs(figure.add_subplot(1, panels, 1), [run for run in report.runs if run.shares])
    if report.scaling is not None:
        _draw_scaling(figure.add_subplot(1, panels, 2), report.scaling)
    figure.suptitle(f"{report.model}, {report.default.backend} on {report.default.device}")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def draw_runs(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw seconds per slice by graph, and the floor of all graphs where it is known."""
    names, left = [run.name for run in runs], [0.0] * len(runs)
    for graph, colour in zip((*PARTS, "driver"), COLOURS, strict=False):
        widths = [(run.shares or {}).get(graph, 0) * run.seconds_per_slice for run in runs]
        axes.barh(names, widths, left=left, color=colour, label=graph)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    floors = {run.name: sum(run.floor.values()) / run.pairs for run in runs if run.floor}
    axes.plot([*floors.values()], [*floors], "k|", markersize=14, label="floor")
    axes.invert_yaxis()
    axes.set_xlabel("seconds a slice")
    axes.legend(frameon=False)


def _draw_scaling(axes: Axes, scaling: Scaling) -> None:
    """Draw the seconds for a scan over its number of pairs, with one line per size."""
    points = sorted(scaling.seconds, key=lambda point: (point.size, point.pairs))
    for size, group in groupby(points, key=lambda point: point.size):
        line = list(group)
        seconds = [scaling.seconds[point] for point in line]
        axes.loglog([x.pairs for x in line], seconds, "o-", label=f"{size}x{size}")
    axes.set_xticks(PAIRS, map(str, PAIRS))
    axes.set_xticks([], minor=True)
    axes.set_xlim(PAIRS[0] / 1.5, PAIRS[-1] * 1.5)
    axes.set_xlabel("slice pairs")
    axes.set_ylabel("seconds a scan")
    axes.legend(frameon=False)
