"""Distillation losses against their definitions."""

import numpy as np
import pytest
import torch

from modelkit.core.graph import Edge, Graph, Input, Node
from modelkit.distill.losses import Distance, losses_of


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("shape", [(4, 7), (2, 3, 7)])
def test_divergence_is_its_definition(temperature, shape):
    rng = np.random.default_rng(0)
    s, t = rng.standard_normal(shape), rng.standard_normal(shape)
    p, q = softmax(t / temperature), softmax(s / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(-1).mean()
    distance = Distance({"y": "kl"}, temperature)
    assert float(distance({"y": torch.tensor(s)}, {"y": torch.tensor(t)})) == pytest.approx(expected, rel=1e-5)


def test_probabilities_are_taken_as_such():
    rng = np.random.default_rng(0)
    s, t = rng.standard_normal((4, 7)), rng.standard_normal((4, 7))
    logits = Distance({"y": "kl"}, 2.0)({"y": torch.tensor(s)}, {"y": torch.tensor(t)})
    found = Distance({"y": "kl"}, 2.0, ["y"])({"y": torch.tensor(softmax(s))}, {"y": torch.tensor(softmax(t))})
    assert float(found) == pytest.approx(float(logits), rel=1e-4)


def test_squared_error_is_relative_and_outputs_add_up():
    s, t = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 4.0]])
    distance = Distance({"a": "mse", "b": "mse"}, 1.0)
    assert float(distance({"a": s, "b": t}, {"a": t, "b": t})) == pytest.approx(0.25)


def test_masked_logits_give_a_number():
    t = torch.tensor([[1.0, -torch.inf, 0.5]])
    s = torch.tensor([[0.5, -torch.inf, 0.5]], requires_grad=True)
    loss = Distance({"y": "kl"}, 2.0)({"y": s}, {"y": t})
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(s.grad).all()


def graph(*nodes, shape=(1, 10), dtype="float32"):
    edges = {"x": Edge("x", (1, 4), "float32"), "a": Edge("a", shape, dtype), "y": Edge("y", shape, dtype)}
    return Graph(nodes, edges, (Input("x", "float32", ("n", 4)),), ("y",))


LINEAR = Node("fc", "linear", "linear", ("x",), ("y",))


@pytest.mark.parametrize(
    ("network", "labels", "expected"),
    [
        (graph(LINEAR), "i", {"y": "kl"}),
        (graph(LINEAR), None, {"y": "both"}),
        (graph(LINEAR), "f", {"y": "mse"}),
        (graph(LINEAR, shape=(1, 1)), "i", {"y": "mse"}),
        (graph(Node("s", "softmax", "softmax", ("x",), ("y",))), None, {"y": "kl"}),
        (graph(Node("n", "norm", "norm", ("x",), ("y",))), None, {"y": "mse"}),
        (graph(Node("m", "reduce", "argmax", ("x",), ("y",)), dtype="int64"), None, {}),
    ],
)
def test_outputs_get_the_loss_that_suits_them(network, labels, expected):
    assert losses_of(network, labels) == expected
