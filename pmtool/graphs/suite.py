"""All graphs of a network by name."""

from __future__ import annotations

from collections.abc import Iterable

from pmtool.graphs.horizontal import KnownGraph
from pmtool.graphs.pixel import PixelGraph
from pmtool.graphs.row import RowGraph
from pmtool.graphs.window import WindowGraph
from pmtool.interface.graph_names import GRAPHS, kind_and_depth
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_network, folded_state

Graph = WindowGraph | RowGraph | KnownGraph | PixelGraph


def graph_suite(network: PixelMiner, names: Iterable[str] = GRAPHS) -> dict[str, Graph]:
    """The graphs of a network, by name, see `pmtool.interface.graph_names`."""
    folded = folded_network(network.hyperparameters, folded_state(network))
    return {name: _graph(folded, *kind_and_depth(name)) for name in names}


def _graph(network: PixelMiner, kind: str, depth: int) -> Graph:
    if kind == "window":
        return WindowGraph(network)
    if kind == "row":
        return RowGraph(network, depth)
    if kind == "known":
        return KnownGraph(network, depth)
    return PixelGraph(network, depth, kind)
