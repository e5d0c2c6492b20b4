"""A segment run from given values gives the same numbers as the whole run, in both formats."""

import numpy as np
import pytest

from modelkit.analysis.fit_points import live_edges
from modelkit.core.forms import Dense
from modelkit.models.opening import open_model
from modelkit.publish import outputs_of, relative_difference
from tests.every_architecture import in_both_formats

QUICK = ("mlp", "mobilenet", "bert")


def _cuts(graph, shares):
    """The edges that cut the graph at these shares of its nodes."""
    return [live_edges(graph, int(share * len(graph.nodes))) for share in shares]


@pytest.mark.parametrize(("architecture", "family"), in_both_formats(QUICK))
def test_the_rest_of_a_model_from_where_it_is_cut(zoo, architecture, family):
    model = open_model(getattr(zoo, family)(architecture))
    feeds, _ = zoo.arrays(architecture)
    outputs = model.graph.outputs
    for given in _cuts(model.graph, (0.1, 0.5, 0.9)):
        (whole,) = model.observe([feeds], given)
        found = model.segment(given, outputs)({**feeds, **{edge: whole[edge] for edge in given}})
        assert relative_difference([whole[edge] for edge in outputs], [found[edge] for edge in outputs]) < 1e-5


@pytest.mark.parametrize("family", ["onnx", "pt2"])
@pytest.mark.parametrize("architecture", ["mlp", "mobilenet", "bert"])
def test_the_values_between_two_cuts(zoo, architecture, family):
    model = open_model(getattr(zoo, family)(architecture))
    feeds, _ = zoo.arrays(architecture)
    given, wanted = _cuts(model.graph, (0.3, 0.7))
    (whole,) = model.observe([feeds], [*given, *wanted])
    found = model.segment(given, wanted)({**feeds, **{edge: whole[edge] for edge in given}})
    assert set(found) == set(wanted)
    for edge in wanted:
        assert relative_difference([whole[edge]], [found[edge]]) < 1e-5, edge


@pytest.mark.parametrize("family", ["onnx", "pt2"])
def test_what_is_given_is_believed_and_given_back(zoo, family):
    """Nothing before the cut is run: other values there give what the layers behind make of them."""
    model = open_model(getattr(zoo, family)("mlp"))
    feeds, _ = zoo.arrays("mlp")
    *_, last = model.graph.layers()
    source, target = last.inputs[0], last.outputs[0]
    (whole,) = model.observe([feeds], [source])
    x = np.random.default_rng(0).standard_normal(whole[source].shape).astype(np.float32)
    found = model.segment([source], [source, target])({source: x})
    np.testing.assert_array_equal(found[source], x)
    expected = x @ model.parameter(last.name, "weight").T + model.parameter(last.name, "bias")
    np.testing.assert_allclose(found[target], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["onnx", "pt2"])
def test_a_segment_has_the_weights_of_its_time(zoo, family):
    model = open_model(getattr(zoo, family)("mlp"))
    feeds, _ = zoo.arrays("mlp")
    (given,) = _cuts(model.graph, (0.3,))
    (whole,) = model.observe([feeds], given)
    values = {**feeds, **{edge: whole[edge] for edge in given}}
    before = model.segment(given, model.graph.outputs)
    *_, last = model.graph.layers()
    model.set_parameter(last.name, "weight", Dense(2 * model.parameter(last.name, "weight")))
    after = model.segment(given, model.graph.outputs)(values)
    assert relative_difference(outputs_of(model, feeds), [after[edge] for edge in model.graph.outputs]) < 1e-5
    assert relative_difference([before(values)[edge] for edge in model.graph.outputs], outputs_of(model, feeds)) > 0.1
