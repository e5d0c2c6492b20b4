"""How much of a graph's values is alive at a time."""

import numpy as np
import pytest

from modelkit.analysis.memory import first_batches, live_bytes
from modelkit.core.errors import InputWarning, ModelkitError
from modelkit.core.graph import Edge, Graph, Input, Node


def graph(nodes, sizes, outputs):
    edges = {name: Edge(name, (1, size), "float32") for name, size in sizes.items()}
    return Graph(tuple(nodes), edges, (Input("x", "float32", ("batch", sizes["x"])),), outputs)


def node(name, inputs, output):
    return Node(name, "other", name, inputs, (output,))


def test_a_chain_holds_two_values_at_a_time():
    nodes = [node("1", ("x",), "a"), node("2", ("a",), "b"), node("3", ("b",), "y")]
    assert live_bytes(graph(nodes, {"x": 10, "a": 100, "b": 20, "y": 5}, ("y",))) == 4 * 120


def test_a_skip_connection_is_held_until_it_is_read():
    nodes = [node("1", ("x",), "a"), node("2", ("a",), "b"), node("3", ("b", "x"), "y"), node("4", ("y",), "z")]
    assert live_bytes(graph(nodes, {"x": 10, "a": 100, "b": 20, "y": 5, "z": 1}, ("z",))) == 4 * 130


def test_as_many_batches_as_fit_and_a_warning_when_those_are_not_all():
    nodes = [node("1", ("x",), "a"), node("2", ("a",), "y")]
    one = graph(nodes, {"x": 1 << 20, "a": 1 << 20, "y": 1}, ("y",))  # 8 MiB a sample
    batches = [{"x": np.zeros((50, 1), np.float32)}] * 4
    with pytest.warns(InputWarning, match="more than 100 samples"):
        assert len(first_batches(batches, one)) == 2
    assert len(first_batches(batches, one, walks=1)) == 4
    with pytest.raises(ModelkitError, match="no samples"):
        first_batches([], one)
