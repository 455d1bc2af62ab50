"""Graphs whose heavy products are in half precision, made from the float32 graphs of a bundle.

The pattern is that of autocast: products with weights take and return the half type; everything
between them, inputs and outputs stay in float32. So do the encoder and the last layers, which give
the midpoint and the mixture: 12-bit grey levels are finer than a half type can resolve, and all
residuals are in units of the midpoint's scale. So do the coarsest shares and the entry's
convolutions, see `EXACT`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, checker, helper, load

from pmtool.choices import Precision

HEAVY = ("Conv", "MatMul", "Gemm")
EXACT = re.compile(r"network\.(encoder|input_\w+)\..*|(network\.)?output\.(weight|matrix)|matrix2")
"""Names of the weights whose products stay in float32: those of the encoder, the last layer, the
coarsest shares and the entry. The coarsest shares read the encoder's largest features, of which
half types keep the least, and are few: at a quarter of the resolution. Without the entry's three
convolutions, the graphs of a network with an encoder have none in bfloat16."""
BFLOAT16_OPSET = 22
"""The first opset in which Conv takes bfloat16. For the operators in these graphs, opsets 19 to 22
add types and nothing else; but an engine may lack their newest versions."""
_ROUNDED = "_rounded"
_HALF = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def in_precision(model: ModelProto, precision: Precision, *, emulated: bool = False) -> ModelProto:
    """Return a float32 graph with its heavy products in another precision.

    Weights are still stored in float32; an engine casts them once.

    Parameters
    ----------
    model
        The graph in float32.
    precision
        Precision of the heavy products.
    emulated
        Round inputs and outputs of a product to the half type, but multiply in float32, because
        tensor cores add in float32. This is for ONNX Runtime on a CPU, which has no bfloat16
        products and silently computes float16 products from unrounded numbers.

    Returns
    -------
    ModelProto
        A checked copy; for float32 it is otherwise unchanged.
    """
    converted = ModelProto()
    converted.CopyFrom(model)
    if precision != "float32":
        _Casts(converted.graph, _HALF[precision], emulated).insert()
    if precision == "bfloat16" and _has_half_convolution(converted.graph):
        opset = converted.opset_import[0]
        opset.version = max(BFLOAT16_OPSET, opset.version)
    checker.check_model(converted, full_check=True)
    return converted


def _has_half_convolution(graph: GraphProto) -> bool:
    return any(n.op_type == "Conv" and n.input[1].endswith(_ROUNDED) for n in graph.node)


def serialised(path: Path, precision: Precision, *, emulated: bool = False) -> bytes:
    """Content of a float32 graph's file after `in_precision`, with the weights."""
    return bytes(in_precision(load(path), precision, emulated=emulated).SerializeToString())


class _Casts:
    """Casts to a half type and back, around the heavy products of a graph and of its Scan."""

    def __init__(self, graph: GraphProto, half: int, emulated: bool) -> None:
        self.graph = graph
        self.there: list[int] = [half, TensorProto.FLOAT] if emulated else [half]
        self.back: list[int] = [half, TensorProto.FLOAT] if emulated else [TensorProto.FLOAT]
        self.weights = {tensor.name for tensor in graph.initializer}
        self.constants = set(self.weights)
        self.of_weights: list[NodeProto] = []
        self.rounded: dict[str, str] = {}

    def insert(self) -> None:
        """Insert the casts; weights are cast in the outer graph, not in every step of the Scan."""
        bodies = [a.g for node in self.graph.node for a in node.attribute if a.HasField("g")]
        for body in bodies:
            _replace(body, [*self._around_products(body.node)])
        nodes = [*self._around_products(self.graph.node)]
        _replace(self.graph, [*self.of_weights, *nodes])

    def _around_products(self, nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
        for node in nodes:
            if self.constants.issuperset(node.input):
                self.constants.update(node.output)  # weights that are split or joined
            if self._is_heavy(node):
                yield from self._around(node)
            else:
                yield node

    def _is_heavy(self, node: NodeProto) -> bool:
        """Whether a node is a product with weights that are not `EXACT`.

        Sums over the mixture are products without weights and are not heavy.
        """
        if node.op_type not in HEAVY or node.input[1] not in self.constants:
            return False
        return not EXACT.fullmatch(node.input[1])

    def _around(self, node: NodeProto) -> Iterator[NodeProto]:
        factors, result = list(node.input), node.output[0]
        share = factors.pop() if node.op_type == "Gemm" else None
        for name in factors:
            if name not in self.rounded:
                self.rounded[name] = f"{name}{_ROUNDED}"
                casts = _casts(name, self.rounded[name], self.there)
                if name in self.weights:
                    self.of_weights += casts
                else:
                    yield from casts
        product = f"{result}_product"
        node.input[:] = [self.rounded[name] for name in factors]
        node.output[:] = [product]
        yield node
        if share is None:
            yield from _casts(product, result, self.back)
            return
        plain = {"alpha": 1, "beta": 1, "transA": 0, "transB": 0}
        assert all(helper.get_attribute_value(a) == plain[a.name] for a in node.attribute)
        node.op_type = "MatMul"
        del node.attribute[:]
        yield from _casts(product, f"{product}_exact", self.back)
        yield helper.make_node("Add", [f"{product}_exact", share], [result], name=result)


def _casts(source: str, target: str, types: Sequence[int]) -> list[NodeProto]:
    """Nodes that cast a tensor to several types in turn."""
    names = [source, *(f"{target}_cast{i}" for i in range(1, len(types))), target]
    steps = zip(pairwise(names), types, strict=True)
    return [helper.make_node("Cast", [a], [b], name=b, to=to) for (a, b), to in steps]


def _replace(graph: GraphProto, nodes: list[NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)
