"""A session goes on one level of optimisation lower where ONNX Runtime loses a value that is asked for."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from modelkit.core.errors import ModelkitError
from modelkit.models.onnx.model import OnnxModel
from modelkit.models.onnx.session import Session
from modelkit.models.onnx.opening import from_proto
from tests.cli.conftest import small_network

LEVELS = onnxruntime.GraphOptimizationLevel
FEEDS = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}


@pytest.fixture
def tried(monkeypatch):
    """The levels that sessions were made with. Those in `tried.failing` lose an output."""

    class Tried(list):
        failing = ()

    found, make = Tried(), onnxruntime.InferenceSession

    def session(model, options, **rest):
        found.append(options.graph_optimization_level)
        if options.graph_optimization_level in found.failing:
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : the graph lost its output.")
        return make(model, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return found


def program():
    return from_proto(small_network(), Path("m.onnx"), Path("."))


def test_the_highest_level_where_it_works(tried):
    Session(program(), ["logits"])
    assert tried == [LEVELS.ORT_ENABLE_ALL]


def test_one_level_lower_where_it_does_not(tried):
    expected = Session(program(), ["b", "logits"]).run(FEEDS)
    tried.failing = (LEVELS.ORT_ENABLE_ALL,)
    found = Session(program(), ["b", "logits"]).run(FEEDS)
    assert tried[1:] == [LEVELS.ORT_ENABLE_ALL, LEVELS.ORT_ENABLE_EXTENDED]
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6)


def test_what_no_level_runs_is_refused_in_the_runtimes_words(tried):
    tried.failing = (LEVELS.ORT_ENABLE_ALL, LEVELS.ORT_ENABLE_EXTENDED)
    with pytest.raises(ModelkitError, match="can't run the model: the graph lost its output"):
        Session(program(), ["logits"])


def test_without_optimisation_there_is_one_try(tried):
    tried.failing = (LEVELS.ORT_DISABLE_ALL,)
    with pytest.raises(ModelkitError):
        Session(program(), ["logits"], optimise=False)
    assert tried == [LEVELS.ORT_DISABLE_ALL]


def test_every_value_is_seen_at_every_width():
    """The case for which there is a second try: widths that are no multiple of the runtime's blocks, read on the way."""
    model = OnnxModel.from_proto(small_network(), Path("m.onnx"), Path("."))
    edges = [node.outputs[0] for node in model.graph.nodes]
    (values,) = model.observe([FEEDS], edges)
    assert set(edges) <= set(values)
