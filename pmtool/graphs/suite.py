"""All graphs of a network by name."""

from __future__ import annotations

from pmtool.graphs.horizontal import KnownGraph
from pmtool.graphs.pixel import PixelGraph
from pmtool.graphs.row import RowGraph
from pmtool.graphs.window import WindowGraph
from pmtool.interface.graph_names import CHOOSERS, DEPTHS
from pmtool.network import PixelMiner
from pmtool.network.folding import folded_network, folded_state

Graph = WindowGraph | RowGraph | KnownGraph | PixelGraph


def graph_suite(network: PixelMiner) -> dict[str, Graph]:
    """The graphs of a network, by name, see `pmtool.interface.graph_names`."""
    folded = folded_network(network.hyperparameters, folded_state(network))
    suite: dict[str, Graph] = {"window": WindowGraph(folded)}
    for depth in DEPTHS:
        suite[f"row{depth}"] = RowGraph(folded, depth)
        suite[f"known{depth}"] = KnownGraph(folded, depth)
        for chooser in CHOOSERS:
            suite[f"{chooser}{depth}"] = PixelGraph(folded, depth, chooser)
    return suite
