"""The neutral graph of torch programs: every architecture opens with its layers, shapes and parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelkit.analysis.macs import total_macs
from modelkit.core.errors import ModelkitError, SkippedWarning
from modelkit.core.forms import Dense
from modelkit.models.opening import open_model
from modelkit.models.torch.model import TorchModel
from tests.architectures import ARCHITECTURES
from tests.models.torch.networks import conv_pt2, image, random_form, save_pt2
from tests.zoo_cache import ZooCache

# linear, conv and embedding layers
LAYERS = {
    "mlp": (3, 0, 0),
    "vgg": (2, 6, 0),
    "resnet": (1, 11, 0),
    "mobilenet": (1, 14, 0),
    "densenet": (1, 14, 0),
    "vit": (13, 1, 0),
    "bert": (13, 0, 3),
    "gpt2": (9, 0, 2),
    "llama": (15, 0, 1),
    "dlrm": (4, 0, 4),
    "whisper": (33, 2, 2),
    "clip": (26, 1, 3),
    "policy_value": (3, 7, 0),
    "lstm_speech": (1, 1, 0),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture(zoo: ZooCache, name: str) -> None:
    model = TorchModel.open(zoo.pt2(name))
    graph = model.graph
    kinds = [node.kind for node in graph.layers()]
    assert tuple(kinds.count(kind) for kind in ("linear", "conv", "embedding")) == LAYERS[name]  # type: ignore[arg-type]
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    inputs, expected = zoo.arrays(name)
    assert [entry.name for entry in graph.inputs] == list(inputs)
    assert all(entry.dims[0] == "batch" and entry.dtype == inputs[entry.name].dtype.name for entry in graph.inputs)
    produced = {entry.name for entry in graph.inputs}
    for node in graph.nodes:
        if node.kind != "embedding":  # Position embeddings are looked up at constants.
            assert set(node.inputs) <= produced, node
        produced.update(node.outputs)
        assert node.kind != "control"
    assert all(edge.shape is not None for edge in graph.edges.values())
    for node in graph.layers():
        if node.kind == "recurrent":
            assert node.skip
            continue
        weight = model.parameter(node.name, "weight")
        assert node.skip is None and weight is not None and weight.shape == node.parameters["weight"].shape
        assert weight.nbytes == node.parameters["weight"].bytes
        source, output = graph.shape(node.inputs[0]), graph.shape(node.outputs[0])
        assert source is not None and output is not None
        if node.kind == "linear":
            assert (source[-1], output[-1]) == (weight.shape[1], weight.shape[0])
        elif node.kind == "conv":
            assert (source[1] // node.attributes["groups"], output[1]) == (weight.shape[1], weight.shape[0])
        else:
            assert output[-1] == weight.shape[1]
    values = next(model.observe([inputs], names[:0]))
    for edge, wanted in zip(graph.outputs, expected, strict=True):
        np.testing.assert_allclose(values[edge], wanted, rtol=1e-4, atol=1e-5)
        assert graph.shape(edge) == (1, *wanted.shape[1:])


def test_shapes_hold_for_one_sample(zoo: ZooCache) -> None:
    model = TorchModel.open(zoo.pt2("resnet"))
    one = {name: array[:1] for name, array in zoo.arrays("resnet")[0].items()}
    edges = [edge for node in model.graph.nodes for edge in node.outputs]
    for edge, value in next(model.observe([one], edges)).items():
        assert value.shape == model.graph.shape(edge)
        assert value.dtype.name == model.graph.edges[edge].dtype


class Odd(nn.Module):
    """Weights that reach their products through chains of constants, and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = nn.Parameter(torch.randn(8, 3, 2).half())
        self.flat = nn.Parameter(torch.randn(5, 6))
        self.shared = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.stored.float().reshape(8, 6)
        y = self.shared(self.shared(y))
        made = (y.mean(0, keepdim=True) * self.flat).contiguous()
        return torch.addmm(self.flat[:, 0], y, self.flat.t()) + nn.functional.linear(y, made)


def test_weights_behind_constants(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Odd()
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", module, torch.randn(2, 8)))
    first, second, again, last, made = model.graph.layers()
    assert [node.kind for node in (first, second, again, last, made)] == ["linear"] * 5
    assert (first.name, second.name, last.name) == ("stored", "shared", "flat") and again.name not in ("shared", second.name)
    np.testing.assert_array_equal(model.parameter("stored", "weight"), module.stored.detach().float().reshape(8, 6).t().numpy())
    np.testing.assert_array_equal(model.parameter("flat", "weight"), module.flat.detach().numpy())
    assert model.parameter(last.name, "bias").shape == (5,)
    assert made.skip and "run time" in made.skip and len(made.inputs) == 2
    with pytest.raises(ModelkitError, match="run time"):
        model.set_parameter(made.name, "weight", Dense(np.zeros((5, 6), np.float32)))
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(next(model.observe([{"x": x}], []))[model.graph.outputs[0]], expected, rtol=1e-5, atol=1e-5)


class ManyOutputs(nn.Module):
    def forward(self, x: torch.Tensor, pair: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        a, b = x.split(4, dim=1)
        values, indices = a.topk(2, dim=1)
        return {"sum": values.sum(1) + pair["u"], "indices": indices, "input": x, "b": b, "again": b}


def test_tuples_and_nested_inputs(tmp_path: Path) -> None:
    x, u = torch.randn(3, 8), torch.randn(3)
    torch.export.save(torch.export.export(ManyOutputs(), (x, {"u": u}), strict=False), tmp_path / "m.pt2")
    model = TorchModel.open(tmp_path / "m.pt2")
    names = [entry.name for entry in model.graph.inputs]
    assert names == ["x", "pair_u"]
    split = next(node for node in model.graph.nodes if node.op == "aten.split")
    assert split.kind == "reshape" and len(split.outputs) == 2
    found = next(model.observe([{"x": x.numpy(), "pair_u": u.numpy()}], split.outputs))
    np.testing.assert_array_equal(found[split.outputs[1]], x[:, 4:].numpy())
    model.save(tmp_path / "out.pt2")
    result = torch.export.load(tmp_path / "out.pt2").module()(x, {"u": u})
    torch.testing.assert_close(result, ManyOutputs()(x, {"u": u}))


def test_decomposed_program(tmp_path: Path) -> None:
    plain = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    core = torch.export.load(tmp_path / "m.pt2").run_decompositions()
    torch.export.save(core, tmp_path / "core.pt2")
    model = TorchModel.open(tmp_path / "core.pt2")
    assert [(node.name, node.kind) for node in model.graph.layers()] == [("conv", "conv"), ("head", "linear")]
    assert model.graph.by_name["bn"].function == "batch"
    for role in ("weight", "bias", "mean", "variance"):
        np.testing.assert_array_equal(model.parameter("bn", role), plain.parameter("bn", role))
    before = next(model.observe([image()], []))[model.graph.outputs[0]]
    np.testing.assert_allclose(before, next(plain.observe([image()], []))[plain.graph.outputs[0]], rtol=1e-5, atol=1e-6)
    model.remove("bn")
    assert "bn" not in model.graph.by_name
    next(model.observe([image()], []))


class NoGrad(nn.Module):
    """Exported with gradients on, the inner part becomes a higher-order operator."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = self.inner(x).sin()
        return self.fc(x) + y


def test_layers_within_no_grad_are_seen(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(NoGrad(), (torch.randn(2, 4),)), tmp_path / "m.pt2")
    model = TorchModel.open(tmp_path / "m.pt2")
    assert {node.name for node in model.graph.layers()} == {"fc", "inner"}


class Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, (x,))


def test_control_flow(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Branch(), (torch.randn(2, 4),)), tmp_path / "m.pt2")
    model = TorchModel.open(tmp_path / "m.pt2")
    control = next(node for node in model.graph.nodes if node.kind == "control")
    assert control.skip is None and total_macs(model.graph) == 0, "no layer is hidden in it"
    for sign in (1, -1):
        x = sign * np.ones((2, 4), np.float32)
        found = next(model.observe([{"x": x}], []))[model.graph.outputs[0]]
        np.testing.assert_array_equal(found, x * 2 if sign > 0 else x - 1)
    model.save(tmp_path / "out.pt2")
    TorchModel.open(tmp_path / "out.pt2")


def test_data_that_does_not_fit(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    with pytest.raises(ModelkitError, match="no array for"):
        next(model.observe([{"photo": image()["image"]}], []))
    with pytest.raises(ModelkitError, match="does not run on this data"):
        next(model.observe([{"image": np.zeros((2, 4, 8, 8), np.float32)}], []))
    with pytest.raises(ModelkitError, match="no edge"):
        next(model.observe([image()], ["nothing"]))


def test_copies_do_not_touch_each_other(tmp_path: Path) -> None:
    model = TorchModel.open(conv_pt2(tmp_path / "m.pt2"))
    before = model.parameter("head", "weight").copy()
    twin = model.copy()
    twin.set_parameter("head", "weight", Dense(before * 2))
    twin.remove("bn")
    twin.provenance.history.append({"pass": "x"})
    assert "bn" in model.graph.by_name and not model.provenance.history
    np.testing.assert_array_equal(model.parameter("head", "weight"), before)
    np.testing.assert_array_equal(twin.copy().parameter("head", "weight"), before * 2)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_one_size_are_look_ups(tmp_path: Path, mode: str) -> None:
    torch.manual_seed(0)
    module, ids = nn.EmbeddingBag(11, 4, mode=mode), torch.randint(0, 11, (3, 5))
    model = TorchModel.open(save_pt2(tmp_path / "m.pt2", module, ids))
    assert [node.kind for node in model.graph.nodes] == ["embedding", "reduce"]
    with torch.no_grad():
        expected = module(ids).numpy()
    found = next(model.observe([{model.graph.inputs[0].name: ids.numpy()}], []))[model.graph.outputs[0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


class Ragged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(11, 4, mode="sum")

    def forward(self, ids: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        return self.bag(ids, starts)


def test_ragged_bags_stay(tmp_path: Path) -> None:
    ids, starts = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 2])
    torch.export.save(torch.export.export(Ragged(), (ids, starts)), tmp_path / "m.pt2")
    model = TorchModel.open(tmp_path / "m.pt2")
    (layer,) = model.graph.layers()
    assert (layer.name, layer.kind, layer.op) == ("bag", "embedding", "aten.embedding_bag")
    model.set_parameter("bag", "weight", random_form((11, 4), 4))
    dense = model.parameter("bag", "weight")
    found = next(model.observe([{"ids": ids.numpy(), "starts": starts.numpy()}], []))[model.graph.outputs[0]]
    np.testing.assert_allclose(found, [dense[1:3].sum(0), dense[3:6].sum(0)], rtol=1e-6)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cond(x.sum() > 0, lambda y: self.left(y), lambda y: self.right(y), (x,)))


def test_layers_hidden_in_control_flow_are_told(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Branches(), (torch.randn(2, 4),)), tmp_path / "m.pt2")
    with pytest.warns(SkippedWarning, match="cond: layers inside control flow are not seen"):
        graph = open_model(tmp_path / "m.pt2").graph
    assert [node.name for node in graph.layers()] == ["head"] and total_macs(graph) is None
