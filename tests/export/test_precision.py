"""Half precision: which products it changes, and that they round as they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper, shape_inference

from pmtool.backends.onnxruntime import runtime
from pmtool.choices import Precision
from pmtool.export.precision import in_precision
from pmtool.export.step import step_graph
from pmtool.models.bundle import Bundle

GRAPHS = [
    "window",
    *(f"{kind}{d}" for kind in ("row", "known", "quantile", "mean") for d in (1, 3)),
]
HALVES: dict[Precision, tuple[int, type]] = {
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
}
RNG = np.random.default_rng(0)
X, W, B = (RNG.normal(size=s).astype(np.float32) for s in ((5, 16), (16, 7), (5, 7)))


def product_of(op: str, weights: str) -> ModelProto:
    """``y = x @ weights``, or with ``+ b`` by Gemm."""
    arrays = {weights: W, "b": B}
    inputs = ["x", weights, "b"] if op == "Gemm" else ["x", weights]
    tensors = [numpy_helper.from_array(arrays[name], name) for name in inputs[1:]]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 7])
    graph = helper.make_graph([helper.make_node(op, inputs, ["y"])], "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: ModelProto) -> NDArray[np.float32]:
    session = runtime().InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": X})
    return np.asarray(y)


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_emulated_products_round_their_factors_and_their_result(
    op: str, precision: Precision
) -> None:
    _, half = HALVES[precision]
    exact = X.astype(half).astype(np.float64) @ W.astype(half).astype(np.float64)
    expected = exact.astype(np.float32).astype(half).astype(np.float32)
    if op == "Gemm":
        expected = expected + B
    found = run(in_precision(product_of(op, "w"), precision, emulated=True))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "weights",
    [
        "output.matrix",
        "network.output.weight",
        "network.encoder.join.0.0.weight",
        "network.input_row.conv.weight",
        "matrix2",
    ],
)
def test_products_that_stay_in_float32(weights: str) -> None:
    model = product_of("MatMul", weights)
    found = in_precision(model, "bfloat16")
    assert found.graph == model.graph


def test_float32_is_a_copy() -> None:
    model = product_of("Gemm", "w")
    found = in_precision(model, "float32")
    assert found == model
    assert found is not model


def scopes(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        yield from (a.g for a in node.attribute if a.HasField("g"))


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("name", GRAPHS)
def test_types_in_the_graphs_of_the_default_model(name: str, precision: Precision) -> None:
    """Products with weights in the half type; the mixture, inputs and outputs in float32.

    So are the twelve convolutions of the encoder, the three at the entry, and the product of the
    coarsest shares. No convolution is left that bfloat16 would need a newer opset for.
    """
    model = step_graph(onnx.load(Bundle.load().graph(name)))
    converted = shape_inference.infer_shapes(in_precision(model, precision), strict_mode=True)
    graph = converted.graph
    assert converted.opset_import == model.opset_import
    values = (*graph.input, *graph.output)
    assert {v.type.tensor_type.elem_type for v in values} == {TensorProto.FLOAT}
    types = {v.name: v.type.tensor_type.elem_type for v in (*values, *graph.value_info)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    half, _ = HALVES[precision]
    products = Counter(
        types[node.output[0]] == half for node in graph.node if node.op_type in ("Conv", "MatMul")
    )
    choices = 4 * (3 if name.startswith("quantile") else 1)  # sums over the mixture, four columns
    assert products[False] == {"window": 16, "row": 0, "known": 0}.get(name.rstrip("13"), choices)
    assert products[True] == 2 if name == "window" else products[True] > 4
    assert [node.op_type for node in graph.node].count("Gemm") == (
        4 if name.startswith(("quantile", "mean")) else 0  # the last layer
    )


@pytest.mark.parametrize("name", ["quantile2", "mean1"])
def test_step_has_the_names_of_its_scan(name: str) -> None:
    model = onnx.load(Bundle.load().graph(name))
    step = step_graph(model)
    for field in ("input", "output"):
        inner, outer = (getattr(m.graph, field) for m in (step, model))
        assert [v.name for v in inner] == [v.name for v in outer]
        for one, four in zip(inner, outer, strict=True):
            sizes = [d.dim_param or d.dim_value for d in four.type.tensor_type.shape.dim]
            one_sizes = [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim]
            assert sizes in (one_sizes, ["groups", *one_sizes])


def test_step_of_another_graph_is_itself() -> None:
    model = onnx.load(Bundle.load().graph("known1"))
    assert step_graph(model) is model
