"""Sizes that engines are built for: TensorRT's optimisation profiles.

An engine takes any sizes between the least and the largest of one of its profiles, and is fastest
at the typical ones. A context takes memory for the sizes in use, whatever the profile allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pmtool.interface.layout import COLUMNS
from pmtool.models.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from onnx import ValueInfoProto

WIDTHS = (64, 256, 512)
"""Largest window sizes of the profiles, in pixels: the paper's windows, larger ones for few pairs
on a GPU, and whole CT slices."""
MAX_WINDOWS, LEAST_WINDOWS = 4096, 16
"""Number of windows of 64 pixels at once: the default, and the smallest number that allows all
profiles to be checked."""
WINDOWS_AT_ONCE = 16
"""Number of windows of 64 pixels in one call of the window graph; for larger windows, the number
that has the same total of pixels."""
_LEAST = COLUMNS
_TERM = re.compile(r"(?:(\d+)\*)?([a-z]+)(?: \+ (\d+))?")


class Sizes(NamedTuple):
    """The least, the typical and the largest value of a size."""

    least: int
    typical: int
    most: int


Profile = Mapping[str, Sizes]
"""Sizes by the symbols of the graphs: ``lanes``, ``rows`` in groups of four, and ``groups`` of four
columns."""


def profiles(graph: str, hyperparameters: Hyperparameters, max_windows: int) -> list[Profile]:
    """Profiles of a graph, one for each of `WIDTHS`.

    Parameters
    ----------
    graph
        Name of the graph.
    hyperparameters
        Hyper-parameters of the network.
    max_windows
        Number of windows of 64 columns at once; for wider windows, the number that has the same
        total of columns.
    """
    margin = 2 * hyperparameters.margin if graph == "window" else 0
    result: list[Profile] = []
    for width in WIDTHS:
        lanes = max_windows * WIDTHS[0] // width
        if graph == "window":
            lanes = min(max_windows, WINDOWS_AT_ONCE * WIDTHS[0] ** 2 // width**2)
        groups = Sizes(*((size + margin) // COLUMNS for size in (_LEAST, width, width)))
        lanes = max(1, lanes)
        result.append({"lanes": Sizes(1, lanes, lanes), "rows": groups, "groups": groups})
    return result


def shapes(value: ValueInfoProto, profile: Profile) -> list[tuple[int, ...]]:
    """Least, typical and largest shape of a graph's input."""
    dims = value.type.tensor_type.shape.dim
    return [
        tuple(_size(dim.dim_param, profile, i) if dim.dim_param else dim.dim_value for dim in dims)
        for i in range(3)
    ]


def _size(expression: str, profile: Profile, index: int) -> int:
    """Evaluate a symbolic size such as ``4*groups + 1``, the only form in the graphs' inputs."""
    match = _TERM.fullmatch(expression)
    assert match is not None, expression
    factor, symbol, offset = match.groups()
    return int(factor or 1) * profile[symbol][index] + int(offset or 0)
