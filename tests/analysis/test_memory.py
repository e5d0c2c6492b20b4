"""How much of a graph's values is alive at a time."""

from modelkit.analysis.memory import live_bytes
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
