"""Low-rank forms × formats × architectures: the model with chains computes what the model with the decoded weights computes."""

import numpy as np
import pytest

from modelkit.algorithms.quantize.round_to_nearest import round_to_nearest
from modelkit.analysis.chains import chained, reason_against
from modelkit.analysis.macs import node_macs
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Dense
from modelkit.core.lowrank import LowRank, Metric, parts
from modelkit.lowrank.choices import Recipe, Unit, Weighed, Weights, as_matrix, built, units
from modelkit.models.opening import open_model
from modelkit.publish import outputs_of, relative_difference
from tests.architectures import ARCHITECTURES
from tests.conformance.test_pruning import run_without_modelkit
from tests.every_architecture import in_both_formats

pytestmark = pytest.mark.usefixtures("silent")

QUICK = ("mlp", "resnet", "bert")


def _forms(model):
    """Every layer in one of the forms that it can take, the next one of them for each."""
    graph = model.graph
    found = units(graph, {layer.name for layer in graph.layers() if reason_against(graph, layer) is None})
    forms = {}
    for turn, unit in enumerate(found):
        weighed = {
            layer.name: Weighed(layer, as_matrix(layer, model.parameter(layer.name, "weight")), Metric()) for layer in unit.layers
        }
        if len(unit.layers) > 1:
            choice = {layer.name: Recipe("shared", (4,)) for layer in unit.layers}
        else:
            layer = unit.layers[0]
            shape = layer.parameters["weight"].shape
            schemes = [Recipe("svd", (max(1, min(shape[:2]) // 2),))]
            if layer.kind == "conv" and len(shape) == 4 and min(shape[2:]) > 1:
                schemes.append(Recipe("spatial", (3,)))
            if layer.kind == "conv" and min(shape[:2]) > 2:
                schemes.append(Recipe("tucker", (min(shape[1], 3), min(shape[0], 2))))
            choice = {layer.name: schemes[turn % len(schemes)]}
        forms |= built(Weights(unit, weighed), choice)
    return forms


@pytest.mark.parametrize(("architecture", "family"), in_both_formats(QUICK))
def test_chains_compute_what_their_product_does(zoo, tmp_path, architecture, family):
    model = open_model(getattr(zoo, family)(architecture))
    feeds, _ = zoo.arrays(architecture)
    forms = _forms(model)
    if not forms:
        pytest.skip("no layer of it can be factorised")
    chains, decoded = model.copy(), model.copy()
    expected_macs = chained(model.graph, forms)
    chains.factorise(forms)
    for name, form in forms.items():
        decoded.set_parameter(name, "weight", Dense(form.decode().astype(np.float32)))
    expected = outputs_of(decoded, feeds)
    assert relative_difference(expected, outputs_of(chains, feeds)) < 2e-4
    assert set(forms) <= {layer.name for layer in chains.graph.layers()}
    # What was foreseen of the chains is what they are.
    new = {layer.name for layer in chains.graph.layers()} - {layer.name for layer in model.graph.layers()}
    made = [node for node in chains.graph.nodes if node.name in new or node.name in forms]
    assert sum(node_macs(chains.graph, node) for node in made) == sum(
        node_macs(expected_macs, node) for node in expected_macs.nodes
    )
    assert len(made) == len(expected_macs.nodes)
    path = tmp_path / f"chains.{family}"
    chains.save(path)
    assert relative_difference(expected, outputs_of(open_model(path), feeds)) < 2e-4
    for batch in (2, 5) if ARCHITECTURES[architecture].dynamic else (2,):
        example = {key: value.numpy() for key, value in ARCHITECTURES[architecture].example(batch).items()}
        assert all(np.isfinite(array).all() for array in run_without_modelkit(path, example))


@pytest.mark.parametrize(("architecture", "family"), in_both_formats(QUICK))
def test_what_runs_beside_a_layer_is_added(zoo, tmp_path, architecture, family):
    """A chain beside W − D, where the chain is D, gives what W does; also when both are stored in 8 bits."""
    model = open_model(getattr(zoo, family)(architecture))
    feeds, _ = zoo.arrays(architecture)
    layers = {layer.name: layer for layer in model.graph.layers() if reason_against(model.graph, layer) is None}
    layers = {name: layer for name, layer in layers.items() if layer.kind in ("linear", "conv")}
    if not layers:
        pytest.skip("nothing can run beside a layer of it")
    random, forms = np.random.default_rng(0), {}
    for name in layers:
        weight = model.parameter(name, "weight")
        first, last = random.standard_normal((2, *weight.shape[1:])), random.standard_normal((len(weight), 2))
        last = last.reshape(len(weight), 2, *(1,) * (weight.ndim - 2)) * weight.std() / 8
        forms[name] = LowRank((first.astype(np.float32), last.astype(np.float32)))
    expected = outputs_of(model, feeds)
    changed = model.copy()
    changed.bypass(forms)
    for name, form in forms.items():
        changed.set_parameter(name, "weight", Dense((model.parameter(name, "weight") - form.decode()).astype(np.float32)))
    assert relative_difference(expected, outputs_of(changed, feeds)) < 2e-4
    assert set(changed.graph.edges) >= {layer.outputs[0] for layer in layers.values()}
    assert all(len(parts(changed.graph, name)) == 2 for name in forms)
    for name in forms:
        for part in (name, *(part.name for part in parts(changed.graph, name))):
            values = changed.parameter(part, "weight")
            changed.set_parameter(part, "weight", round_to_nearest(values, 8, symmetric=True, group_size=None, axis=0))
    rounded = outputs_of(changed, feeds)
    assert relative_difference(expected, rounded) < 0.2
    path = tmp_path / f"beside.{family}"
    changed.save(path)
    reopened = open_model(path)
    assert relative_difference(rounded, outputs_of(reopened, feeds)) < 2e-4
    assert all(reopened.graph.by_name[name].parameters["weight"].form.startswith("int8") for name in forms)
    example = {key: value.numpy() for key, value in ARCHITECTURES[architecture].example(2).items()}
    assert all(np.isfinite(array).all() for array in run_without_modelkit(path, example))


@pytest.mark.parametrize("family", ["onnx", "pt2"])
def test_a_chain_can_be_quantised(zoo, family):
    from modelkit.core import passes

    model = open_model(getattr(zoo, family)("mlp"))
    feeds, _ = zoo.arrays("mlp")
    model.factorise(_forms(model))
    expected = outputs_of(model, feeds)
    rounding = passes.build("quantize.rtn", {"bits": 8})
    for layer in model.graph.layers():
        if rounding.skip(layer) is None:
            model.set_parameter(layer.name, "weight", rounding.compress(layer, model.parameter(layer.name, "weight")))
    assert relative_difference(expected, outputs_of(model, feeds)) < 0.1


@pytest.mark.parametrize("family", ["onnx", "pt2"])
def test_a_form_of_another_shape_is_refused(zoo, family):
    model = open_model(getattr(zoo, family)("mlp"))
    layer = next(model.graph.layers())
    with pytest.raises(ModelkitError, match="shape"):
        model.factorise({layer.name: LowRank((np.zeros((2, 3), np.float32), np.zeros((5, 2), np.float32)))})


def test_layers_that_read_one_value_are_one_unit(zoo):
    model = open_model(zoo.onnx("bert"))
    found = units(model.graph, {layer.name for layer in model.graph.layers() if layer.kind == "linear"})
    assert max(len(unit.layers) for unit in found) == 3
    assert all(isinstance(unit, Unit) and len({layer.inputs[0] for layer in unit.layers}) == 1 for unit in found)
