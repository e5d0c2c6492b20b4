"""A session goes on one level of optimisation lower where ONNX Runtime loses a value that is asked for."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from modelkit.core.errors import ModelkitError
from modelkit.models.onnx.opening import from_proto
from modelkit.models.onnx.session import Session
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
    with pytest.raises(ModelkitError, match="can't run the model: 1 : FAIL : the graph lost its output"):
        Session(program(), ["logits"])


def test_without_optimisation_there_is_one_try(tried):
    tried.failing = (LEVELS.ORT_DISABLE_ALL,)
    with pytest.raises(ModelkitError):
        Session(program(), ["logits"], optimise=False)
    assert tried == [LEVELS.ORT_DISABLE_ALL]
