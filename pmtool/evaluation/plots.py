"""Plots of the report, as SVG."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from pmtool.evaluation.agreement import REPRODUCIBLE, concordance
from pmtool.evaluation.methods import PIXELMINER
from pmtool.evaluation.noise_power import BINS
from pmtool.evaluation.results import Results
from pmtool.evaluation.scoring import REFERENCE
from pmtool.evaluation.summary import known_mean
from pmtool.evaluation.tables import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#999999", "#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#0072b2", "#f0e442")
"""The colours of Okabe and Ito, which colour-blind readers can tell apart."""
PIXELMINER_COLOUR = "#d55e00"


def noise_power_plot(results: Results) -> str:
    """Plot the noise power spectra of all methods and of the truth."""
    figure, (axes,) = _figure(7.5, 4.0, 1)
    frequencies = (np.arange(BINS) + 0.5) / (2 * BINS)
    for name, spectrum in results.noise_power.items():
        if name == REFERENCE:
            axes.plot(frequencies, spectrum, "k--", linewidth=2, label=label(name))
        else:
            axes.plot(frequencies, spectrum, color=_colours(results)[name], label=label(name))
    axes.set_xlabel("cycles per pixel")
    axes.set_ylabel("noise power, HU² pixel²")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure)


def feature_plot(results: Results) -> str:
    """Plot the error and the concordance of every texture feature."""
    errors = results.texture_errors
    figure, (left, right) = _figure(9.0, 1.2 + 0.17 * len(results.features), 2)
    rows = np.arange(len(results.features))
    for number, (method, colour) in enumerate(_colours(results).items()):
        means = [known_mean(of_slices) for of_slices in errors[number].T]
        agreement = concordance(results.texture[number], results.texture_truth)
        left.plot(means, rows, "o", color=colour, markersize=4, label=label(method))
        right.plot(agreement, rows, "o", color=colour, markersize=4)
    left.set_yticks(rows, results.features, fontsize=7)
    left.set_xlabel("error, scaled to [0, 1]")
    right.set_yticks(rows, [])
    right.set_xlabel("concordance")
    right.set_xlim(right=1.02)
    right.axvline(REPRODUCIBLE, color="black", linewidth=0.8, linestyle=":")
    for axes in (left, right):
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="y", linewidth=0.3)
    figure.legend(loc="outside upper center", ncols=len(results.methods), frameon=False, fontsize=8)
    return _svg(figure)


def _colours(results: Results) -> dict[str, str]:
    others = iter(COLOURS * len(results.methods))
    return {m: PIXELMINER_COLOUR if m == PIXELMINER else next(others) for m in results.methods}


def _figure(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [figure.add_subplot(1, columns, number + 1) for number in range(columns)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    """Return the SVG element alone, for use within a page."""
    import matplotlib

    buffer = StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pmtool"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    return drawing[drawing.index("<svg") :]
