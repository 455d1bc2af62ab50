"""The pixel graph's step of four columns, taken out of the Scan that repeats it along a row.

TensorRT-RTX 1.7 parses the Scan but cannot build its loop; it builds the step.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto, ValueInfoProto, checker, helper


def step_graph(model: ModelProto) -> ModelProto:
    """Return the step that the Scan of a pixel graph repeats, as a graph with the same names.

    This is the inverse of `pmtool.export.to_onnx.scan_columns`: every shape
    ``(groups, n, M, channels)`` becomes ``(n, M, channels)``. A graph without a Scan is returned
    unchanged.
    """
    (scan, *others) = model.graph.node
    if others or scan.op_type != "Scan":
        return model
    (body,) = (attribute.g for attribute in scan.attribute if attribute.name == "body")
    inner = [value.name for value in (*body.input, *body.output)]
    names = dict(zip(inner, [*scan.input, *scan.output], strict=True))
    nodes = list(body.node)
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    inputs, outputs = ([_renamed(v, names) for v in vs] for vs in (body.input, body.output))
    graph = helper.make_graph(nodes, "pixel", inputs, outputs, model.graph.initializer)
    step = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    checker.check_model(step, full_check=True)
    return step


def _renamed(value: ValueInfoProto, names: Mapping[str, str]) -> ValueInfoProto:
    renamed = ValueInfoProto()
    renamed.CopyFrom(value)
    renamed.name = names[value.name]
    return renamed
