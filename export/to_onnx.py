"""Exporting PyTorch graphs to ONNX."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, checker, helper
from torch.export import Dim

from pmtool.arrays import Float32s
from pmtool.graphs.horizontal import KnownGraph
from pmtool.graphs.pixel import PixelGraph
from pmtool.graphs.row import RowGraph
from pmtool.graphs.suite import Graph
from pmtool.graphs.window import WindowGraph
from pmtool.interface.buffers import Buffers
from pmtool.interface.host import HostMemory
from pmtool.interface.layout import COLUMNS, Layout
from pmtool.models.hyperparameters import Hyperparameters

OPSET = 18
"""The newest opset of which ONNX Runtime has had all operators here on GPUs for years; it lacked
Pad of opset 19 and ConvTranspose of opset 22."""
LANES = 3
SIZE = 16
"""Number of lanes, and of columns, in the example for tracing a graph; both become symbolic."""

Shape = dict[int, object]


def export_graph(graph: Graph, hyperparameters: Hyperparameters) -> ModelProto:
    """Export a graph as a checked ONNX model with symbolic sizes and named inputs and outputs."""
    arrays, shapes = _example(graph, hyperparameters)
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    with _quiet():
        program = torch.onnx.export(
            graph,
            tensors,
            input_names=graph.inputs,
            output_names=graph.outputs,
            dynamic_shapes=(tuple(shapes),),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model = scan_columns(model, graph) if isinstance(graph, PixelGraph) else model
    _forget_origins(model.graph)
    checker.check_model(model)
    return model


def scan_columns(step: ModelProto, graph: PixelGraph) -> ModelProto:
    """Repeat the pixel graph over a row's groups of columns, in an ONNX Scan.

    States keep their shape; all other inputs and outputs get the groups as their first axis.
    """
    body = step.graph
    inner = {name: f"{name}_column" for name in (*graph.inputs, *graph.outputs)}
    for node in body.node:
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner.get(name, name) for name in node.output]
    outer_inputs = [_value(v, v.name in graph.scanned) for v in body.input]
    outer_outputs = [_value(v, v.name in graph.results) for v in body.output]
    for value in (*body.input, *body.output):
        value.name = inner[value.name]
    weights = list(body.initializer)
    del body.initializer[:], body.value_info[:]
    scan = helper.make_node(
        "Scan", graph.inputs, graph.outputs, body=body, num_scan_inputs=len(graph.scanned)
    )
    outer = helper.make_graph([scan], "pixels", outer_inputs, outer_outputs, weights)
    return helper.make_model(outer, opset_imports=step.opset_import, ir_version=step.ir_version)


def _value(value: ValueInfoProto, scanned: bool) -> ValueInfoProto:
    dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
    return helper.make_tensor_value_info(
        value.name, TensorProto.FLOAT, ["groups", *dims] if scanned else dims
    )


def _example(graph: Graph, hyperparameters: Hyperparameters) -> tuple[list[Float32s], list[Shape]]:
    """Inputs for tracing a graph, and their symbolic sizes."""
    groups, lanes = Dim("groups", min=2), Dim("lanes", min=2)

    def _row(array: Float32s) -> Shape:
        return {0: len(array) // (SIZE // COLUMNS) * groups, 1: lanes}

    if isinstance(graph, WindowGraph):
        size = SIZE + 2 * hyperparameters.margin
        plane = np.random.default_rng(0).random((LANES, 1, size, size + 4), np.float32)
        # If sizes are known to exceed the margins, symbolic expressions stay simple.
        rows, groups = (Dim(name, min=size // COLUMNS) for name in ("rows", "groups"))
        slices: Shape = {0: lanes, 2: COLUMNS * rows, 3: COLUMNS * groups}
        thickness = np.full((LANES, 1, 1, 1), 0.5, np.float32)
        return [plane, plane, thickness], [slices, slices, {0: lanes}]
    buffers = Buffers(HostMemory(), Layout(hyperparameters), SIZE, SIZE, LANES)
    arrays = _arrays(graph, buffers)
    inputs = [arrays[name] for name in graph.inputs]
    if isinstance(graph, PixelGraph):
        return inputs, [{0 if name in graph.states else 1: lanes} for name in graph.inputs]
    above: Shape = {1: COLUMNS * groups + 1, 2: lanes}
    return inputs, [
        above if isinstance(graph, RowGraph) and name == "residuals" else _row(arrays[name])
        for name in graph.inputs
    ]


def _arrays(graph: RowGraph | KnownGraph | PixelGraph, buffers: Buffers) -> dict[str, Float32s]:
    if isinstance(graph, RowGraph):
        return buffers.row(graph.depth)
    if isinstance(graph, KnownGraph):
        return buffers.known(graph.weights.depth, SIZE)
    arrays = buffers.pixel(graph.weights.depth, 0)
    return {name: array if name in graph.states else array[0] for name, array in arrays.items()}


def _forget_origins(graph: GraphProto) -> None:
    """Remove the exporter's notes about the source code of every node."""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _forget_origins(attribute.g)
    del graph.value_info[:], graph.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages about missing packages and nodes that were not folded."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
