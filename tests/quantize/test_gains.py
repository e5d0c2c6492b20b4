"""Leaving layers alone, with a pretended clock: the decision is tested, not the machine."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from modelkit.core.graph import Edge, Graph, Input, Node, Parameter
from modelkit.core.targets import TARGETS
from modelkit.quantize import gains
from modelkit.quantize.planning import Plan


def chain(length, grouped=()):
    """x → layer0 → layer1 → …; the last one is the model's output."""
    nodes, edges = [], {"x": Edge("x", (1, 8, 4, 4), "float32")}
    for i in range(length):
        out = f"e{i}"
        edges[out] = Edge(out, (1, 8, 4, 4), "float32")
        groups = 8 if f"layer{i}" in grouped else 1
        weight = {"weight": Parameter("w", (8, 8, 3, 3), "float32", 2304)}
        nodes.append(Node(f"layer{i}", "conv", "Conv", ("x" if i == 0 else f"e{i - 1}",), (out,), weight, {"groups": groups}))
    return Graph(tuple(nodes), edges, (Input("x", "float32", ("batch", 8, 4, 4)),), (f"e{length - 1}",))


class Pretended:
    """A model whose saved file holds the layers left alone."""

    def __init__(self, graph, left=None):
        self.graph, self.left = graph, left

    def save(self, path):
        path.write_text("original" if self.left is None else ",".join(sorted(self.left)))


def decide(monkeypatch, graph, milliseconds, noise=0.0):
    rng = np.random.default_rng(0)

    def quick(files, feeds, threads, budget, rounds):
        return {
            name: [milliseconds(path.read_text()) * (1 + noise * rng.exponential()) for _ in range(rounds)]
            for name, path in files.items()
        }

    monkeypatch.setattr("modelkit.bench.quick.quick_latency", quick)
    plan = Plan(static=[node.name for node in graph.nodes])
    return set(gains.left_alone(Pretended(graph), plan, lambda variant: Pretended(graph, set(variant.skipped)), {}, 1, 0.1))


def test_nothing_is_left_alone_where_integers_win(monkeypatch):
    assert decide(monkeypatch, chain(6), lambda left: 2.0 if left == "original" else 1.0 + 0.1 * len(left)) == set()


def test_first_layers_that_lose_are_found(monkeypatch):
    def milliseconds(left):
        if left == "original":
            return 2.0
        return 1.0 - 0.2 * ("layer0" in left) - 0.1 * ("layer1" in left) + 0.3 * ("layer2" in left)

    assert decide(monkeypatch, chain(8), milliseconds) == {"layer0", "layer1"}


def test_what_helps_alone_is_combined(monkeypatch):
    def milliseconds(left):
        return 3.0 if left == "original" else 1.0 - 0.1 * ("layer0" in left) - 0.1 * ("layer5" in left) + 0.2 * ("layer1" in left)

    assert decide(monkeypatch, chain(6), milliseconds) == {"layer0", "layer5"}


def test_everything_is_left_alone_where_integers_lose(monkeypatch):
    assert decide(monkeypatch, chain(4), lambda left: 1.0 if left == "original" else 1.5) == {f"layer{i}" for i in range(4)}


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_noise_alone_decides_nothing(monkeypatch, noise):
    assert decide(monkeypatch, chain(6), lambda left: 1.4 if left == "original" else 1.0, noise) == set()


def test_grouped_layers_are_tried_together(monkeypatch):
    graph = chain(7, grouped=("layer2", "layer5"))

    def milliseconds(left):
        return 2.0 if left == "original" else 1.0 - 0.2 * ("layer2" in left and "layer5" in left) + 0.3 * ("layer0" in left)

    assert decide(monkeypatch, graph, milliseconds) == {"layer2", "layer5"}


class Layers:
    """x (2, 8, 5, 5) → small, in_groups; small → large, which alone PyTorch is pretended to gain from."""

    def __init__(self):
        layers, edges = [], {"x": Edge("x", None, "float32")}
        window = {"stride": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0)), "transposed": False}
        for name, source, shape in (("small", "x", (8, 8, 1, 1)), ("in_groups", "x", (8, 2, 1, 1)), ("large", "small", (64, 5))):
            edges[name] = Edge(name, None, "float32")
            weight = {"weight": Parameter("w", shape, "float32", 32)}
            kind, attributes = ("conv", {**window, "groups": 8 // shape[1]}) if len(shape) > 2 else ("linear", {})
            layers.append(Node(name, kind, kind, (source,), (name,), weight, attributes))
        self.graph = Graph(tuple(layers), edges, (Input("x", "float32", ("batch", 8, 5, 5)),), ("large",))

    def observe(self, batches, edges):
        assert set(edges) == {"x", "small"}
        yield {edge: np.zeros((2, 8, 5, 5), np.float32) for edge in edges}


@pytest.mark.parametrize("dynamic", [False, True])
def test_layers_that_pytorch_computes_faster_in_floating_point_are_left(monkeypatch, dynamic):
    asked = []

    def latency(layer, shape, at_run_time, target, threads):
        asked.append((layer.name, shape, at_run_time, target, threads))
        return 1.0, 0.5 if layer.name == "large" else 0.98

    monkeypatch.setattr("modelkit.bench.integer_latency.integer_latency", latency)
    plan = Plan(static=["small", "in_groups", *([] if dynamic else ["large"])], dynamic=["large"] if dynamic else [])
    left = gains.slower_in_torch(Layers(), plan, {}, "vnni", 2)
    assert left == {"small": gains.REASON, "in_groups": gains.UNAVAILABLE}
    assert asked == [("small", (2, 8, 5, 5), False, "vnni", 2), ("large", (80, 5), dynamic, "vnni", 2)]


class Whole(Layers):
    """A torch model of which one convolution is worth its integers by itself."""

    family = "torch"


@pytest.mark.parametrize(("speedup", "static"), [(0.98, []), (1.01, []), (1.5, ["small", "large"])])
def test_convolutions_in_pytorch_must_pay_for_the_whole_model(monkeypatch, speedup, static):
    built = []
    monkeypatch.setattr("modelkit.bench.integer_latency.integer_latency", lambda *_: (1.0, 0.5))
    monkeypatch.setattr("modelkit.bench.speedup.Speedup", lambda *_: lambda model, aim: speedup)
    plan = Plan(static=["small", "in_groups", "large"], skipped={"other": "ignored"})
    wanted = SimpleNamespace(target=TARGETS["vnni"], threads=2)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = gains.keep_what_gains(Whole(), plan, built.append, {"x": np.zeros((2, 8, 5, 5), np.float32)}, wanted)
    assert found.static == static and [tried.static for tried in built] == [["small", "large"]]
    assert found.weight_only == ([] if static else ["small", "in_groups", "large"]) and bool(told) == (not static)
    assert set(found.skipped) == {"other", *(["in_groups"] if static else [])}
