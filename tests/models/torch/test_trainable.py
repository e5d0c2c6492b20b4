"""Torch models as modules that learn in the forms of their weights."""

import numpy as np
import pytest
import torch
from torch import nn

from modelkit.core import passes, saturation
from modelkit.core.forms import Dense, DynamicGrid, Grid, Quantized, Sparse
from modelkit.core.model import EdgeGrid
from modelkit.models.opening import open_model
from modelkit.models.torch.model import TorchModel
from modelkit.publish import outputs_of, relative_difference


def tensors(feeds):
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}


def gives(module, feeds, model):
    with torch.no_grad():
        values = module(tensors(feeds))
    return [values[name].float().numpy() for name in model.graph.outputs if name in values]


QUICK = ("mlp", "mobilenet", "bert", "llama")


def _architectures():
    from tests.architectures import ARCHITECTURES

    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ARCHITECTURES]


@pytest.mark.parametrize("architecture", _architectures())
def test_it_computes_what_the_model_does_and_every_weight_learns(zoo, architecture):
    model = open_model(zoo.pt2(architecture))
    feeds, _ = zoo.arrays(architecture)
    for layer in model.graph.layers():
        if layer.kind in ("linear", "conv") and not layer.skip:
            model.set_parameter(layer.name, "weight", _halved(model, layer.name))
    module = model.trainable(masked=False)
    values = module(tensors(feeds))
    expected = outputs_of(model, feeds)
    found = [values[name].detach().numpy() for name in model.graph.outputs]
    assert relative_difference(expected, found) < 1e-5
    sum(value.float().square().mean() for value in values.values() if value.is_floating_point()).backward()
    learning = [p for p in module.parameters() if p.grad is not None]
    assert len(learning) >= 0.8 * len(list(module.parameters())) > 0
    assert relative_difference(expected, outputs_of(model.trained(module), feeds)) < 1e-5


def _halved(model, name):
    weight = model.parameter(name, "weight")
    return Sparse.of(weight, mask=np.random.default_rng(0).random(weight.shape) < 0.5)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).eval()


@pytest.fixture
def model(tmp_path):
    exported = torch.export.export(network(), (torch.randn(4, 32),), dynamic_shapes=({0: torch.export.Dim("n")},))
    return TorchModel.of(exported, tmp_path / "m.pt2")


FORMS = {
    "int8": ("quantize.rtn", {"bits": 8}),
    "int8 for saturating processors": ("quantize.rtn", {"bits": 8, "reduce_range": True}),
    "int4 in groups": ("quantize.rtn", {"bits": 4, "group_size": 16}),
    "int3": ("quantize.rtn", {"bits": 3, "symmetric": True, "group_size": 0}),
    "2:4": ("prune.magnitude", {"pattern": "2:4"}),
    "sparse": ("prune.magnitude", {"sparsity": 0.7}),
}


def compressed(model, form):
    name, options = FORMS[form]
    chosen = passes.build(name, options)
    for layer in model.graph.layers():
        model.set_parameter(layer.name, "weight", chosen.compress(layer, model.parameter(layer.name, "weight")))
    return model


def learn(module, steps=5):
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    x = {name: torch.randn(16, 32, generator=torch.Generator().manual_seed(0)) for name in ["input"]}
    for _ in range(steps):
        optimizer.zero_grad()
        values = module(x)
        next(iter(values.values())).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("form", FORMS)
def test_weights_learn_and_keep_their_form(model, form, tmp_path):
    model = compressed(model, form)
    module = model.trainable(masked=form in ("2:4", "sparse"))  # the last layer is too small to be stored as sparse
    before = {layer.name: model.parameter(layer.name, "weight") for layer in model.graph.layers()}
    learn(module)
    result = model.trained(module)
    feeds = {"input": np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)}
    assert relative_difference(gives(module, feeds, model), outputs_of(result, feeds)) < 1e-5
    for layer in model.graph.layers():
        old, new = before[layer.name], result.parameter(layer.name, "weight")
        assert not np.array_equal(old, new)
        assert result.graph.by_name[layer.name].parameters["weight"].form == layer.parameters["weight"].form
        assert layer.parameters["weight"].bytes == result.graph.by_name[layer.name].parameters["weight"].bytes
        if form in ("2:4", "sparse"):
            assert (new[old == 0] == 0).all()
    if form.startswith("int8"):
        for (_, role), (stored, _) in result.forms().items():
            assert role != "weight" or np.abs(stored.codes.astype(int)).max() <= 127
            assert role != "weight" or "saturating" not in form or saturation.fits(stored.codes)
    result.save(tmp_path / "saved.pt2")
    loaded = torch.export.load(tmp_path / "saved.pt2").module()
    assert np.allclose(loaded(torch.from_numpy(feeds["input"])).detach().numpy(), outputs_of(result, feeds)[0], atol=1e-5)


def test_activations_are_rounded_as_they_will_be(model):
    first, second, third = (layer.name for layer in model.graph.layers())
    edge = model.graph.by_name[second].inputs[0]
    model.quantize_edges({edge: EdgeGrid(Grid(0.05, 3))})
    chosen = passes.build("quantize.rtn", {})
    form = chosen.compress(model.graph.by_name[third], model.parameter(third, "weight"))
    model.set_parameter(third, "weight", form, DynamicGrid())
    module = model.trainable(masked=False)
    feeds = {"input": np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)}
    expected = outputs_of(model, feeds)
    assert relative_difference(expected, gives(module, feeds, model)) < 1e-6
    learn(module, 1)
    weights = {name: weight for name, weight in module.named_parameters()}
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights.values()), (
        "rounding stops no gradient"
    )
    result = model.trained(module)
    assert set(result.grids) == set(model.grids)
    assert relative_difference(gives(module, feeds, model), outputs_of(result, feeds)) < 1e-6


def test_an_output_on_a_grid_keeps_its_name(model):
    feeds = {model.graph.inputs[0].name: np.random.default_rng(0).standard_normal((4, 32), dtype=np.float32)}
    model.quantize_edges({model.graph.outputs[0]: EdgeGrid(Grid(0.1, 0, signed=True))})
    assert relative_difference(gives(model.trainable(masked=False), feeds, model), outputs_of(model, feeds)) < 1e-6


def test_a_bias_on_a_grid_without_steps_is_zero(model):
    layer = next(model.graph.layers()).name
    codes, scale = np.zeros(64, np.int32), np.zeros((64, 1), np.float32)  # the product of two tiny scales
    model.set_parameter(layer, "bias", Quantized(codes, scale, 32))
    values = model.trainable(masked=False)({model.graph.inputs[0].name: torch.randn(4, 32)})
    assert all(value.isfinite().all() for value in values.values())


def test_zeros_of_dense_weights_stay_where_asked(model):
    first = next(iter(model.graph.layers())).name
    weight = model.parameter(first, "weight") * (np.arange(32) % 2).astype(np.float32)
    model.set_parameter(first, "weight", Dense(weight))
    for masked in (True, False):
        module = model.trainable(masked=masked)
        learn(module)
        new = model.trained(module).parameter(first, "weight")
        assert bool((new[weight == 0] == 0).all()) is masked


def test_batch_norms_keep_their_statistics(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    net[1].running_mean.uniform_(-1, 1)
    model = TorchModel.of(torch.export.export(net, (torch.randn(2, 3, 8, 8),)), tmp_path / "m.pt2")
    module = model.trainable(masked=False)
    norm = next(node.name for node in model.graph.nodes if node.function == "batch")
    statistics = {role: model.parameter(norm, role).copy() for role in ("mean", "variance", "weight")}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    (name,) = [spec.name for spec in model.graph.inputs]
    next(iter(module({name: torch.randn(2, 3, 8, 8)}).values())).square().sum().backward()
    optimizer.step()
    result = model.trained(module)
    assert np.array_equal(result.parameter(norm, "mean"), statistics["mean"])
    assert np.array_equal(result.parameter(norm, "variance"), statistics["variance"])
    assert not np.array_equal(result.parameter(norm, "weight"), statistics["weight"])


def test_half_precision_weights_learn_in_full(tmp_path):
    net = network().to(torch.bfloat16)
    model = TorchModel.of(torch.export.export(net, (torch.randn(4, 32, dtype=torch.bfloat16),)), tmp_path / "m.pt2")
    module = model.trainable(masked=False)
    assert all(parameter.dtype is torch.float32 for parameter in module.parameters())
    (name,) = [spec.name for spec in model.graph.inputs]
    next(iter(module({name: torch.randn(4, 32, dtype=torch.bfloat16)}).values())).float().square().sum().backward()
    result = model.trained(module)
    first = next(iter(result.graph.layers()))
    assert first.parameters["weight"].dtype == "bfloat16"
