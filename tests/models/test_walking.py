"""Walking through a model: each stop sees what the weights set at earlier stops make of its input."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from modelkit.core.forms import Dense, Sparse
from modelkit.models.onnx.model import OnnxModel
from modelkit.models.opening import open_model
from modelkit.publish import relative_difference
from tests.every_architecture import in_both_formats

QUICK = ("mlp", "mobilenet", "bert", "llama")


def _float_inputs(model):
    edges = {}
    for layer in model.graph.layers():
        if layer.kind in ("linear", "conv") and not layer.skip and "weight" in layer.parameters:
            edges.setdefault(layer.inputs[0], []).append(layer.name)
    return edges


@pytest.mark.parametrize(("architecture", "family"), in_both_formats(QUICK))
def test_each_stop_sees_the_changes_before_it(zoo, architecture, family):
    model = open_model(getattr(zoo, family)(architecture))
    feeds, _ = zoo.arrays(architecture)
    edges = _float_inputs(model)
    seen = {}
    walked = model.copy()
    for edge, values in walked.walk([feeds, feeds], edges):
        seen[edge] = [value.copy() for value in values]
        for name in edges[edge]:
            weight = walked.parameter(name, "weight")
            form = Sparse.of(weight, mask=weight > 0) if weight.ndim == 2 else Dense(weight * 0.5)
            walked.set_parameter(name, "weight", form)
    assert set(seen) == set(edges)
    (expected,) = walked.observe([feeds], list(edges))
    for edge, (first, second) in seen.items():
        assert relative_difference([expected[edge]], [first]) < 1e-4, edge
        assert np.array_equal(first, second)
    assert any(relative_difference([model_value], [seen[edge][0]]) > 1e-3 for edge, model_value in _original(model, feeds, edges))


def _original(model, feeds, edges):
    (values,) = model.observe([feeds], list(edges))
    return [(edge, values[edge]) for edge in edges]


@pytest.mark.parametrize("family", ["onnx", "pt2"])
def test_values_are_let_go_of(zoo, family):
    """A walk over a deep chain holds the values of a few layers, not of all."""
    import gc
    import weakref

    model = open_model(getattr(zoo, family)("mlp"))
    feeds, _ = zoo.arrays("mlp")
    edges = list(_float_inputs(model))[1:]  # the first is the input, which is ours
    kept, alive = [], []
    for _, values in model.walk([feeds], edges):
        kept.append(weakref.ref(values[0]))
        del values
        gc.collect()
        alive.append(sum(ref() is not None for ref in kept))
    assert max(alive) <= 2


def test_an_operator_with_several_outputs_is_run_once():
    """Of the split, one half is used up before the first stop, the other is held for the second."""
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Relu", ["a"], ["c"]),
        helper.make_node("Neg", ["b"], ["d"]),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [tensor("x", 1, ["n", 4])], [tensor("c", 1, ["n", 2]), tensor("d", 1, ["n", 2])])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model = OnnxModel.from_proto(proto, Path("split.onnx"), Path("."))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    seen = {edge: values[0] for edge, values in model.walk([{"x": x}], ["c", "d"])}
    assert (seen["c"] == x[:, :2]).all() and (seen["d"] == -x[:, 2:]).all()
