"""Random graphs prune without a wrong shape, and channels that nothing reads, or that are zero, leave without a trace."""

from pathlib import Path

import numpy as np
import pytest

from modelkit.analysis.channels import channel_groups
from modelkit.core.forms import Dense
from modelkit.models.onnx.model import OnnxModel
from modelkit.publish import outputs_of, relative_difference
from tests.random_graphs import OnnxWriter, TorchWriter, compose

pytestmark = pytest.mark.usefixtures("silent")

SHAPE = (3, 4, 4)
QUICK, ALL = 40, 300
ZERO_STAYS = ("relu", "tanh")


def onnx_model(seed, **choices):
    writer = OnnxWriter(SHAPE, computed=seed % 2 == 1)
    output = compose(seed, writer, writer.input, **choices)
    return OnnxModel.from_proto(writer.model(output), Path(f"random{seed}.onnx"), Path("."))


def torch_model(seed, **choices):
    import torch

    from modelkit.models.torch.model import TorchModel

    writer = TorchWriter(SHAPE)
    writer.output = compose(seed, writer, writer.input, **choices)
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        exported = torch.export.export(writer.eval(), (torch.zeros(2, *SHAPE),), dynamic_shapes=({0: batch},))
    return TorchModel.of(exported, Path(f"random{seed}.pt2"))


def feeds(model):
    x = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float32)
    return {model.graph.inputs[0].name: x}


def drawn(channels, seed, share=0.4):
    """A random choice of what stays: at least one unit of each group."""
    rng = np.random.default_rng(seed)
    keep = {}
    for group in channels:
        keep[group.name] = rng.random(group.size) >= share
        keep[group.name][rng.integers(group.size)] = True
    return keep


def without_readers(model, groups, keep):
    """Zero the weights of `model` that read the channels which go."""
    zero(model, {group.name: group.readers for group in groups}, keep)


def without_writers(model, groups, keep):
    """Zero all that makes the channels which go, so that they are zero themselves."""
    made = {}
    for group in groups:
        slots = {**group.writers, **group.followers}
        made[group.name] = {slot: units for slot, units in slots.items() if slot.role in ("weight", "bias")}
    zero(model, made, keep)


def zero(model, slots, keep):
    """Zero these parameters, by group, where they belong to what goes. Tied weights stay tied."""
    weights, owners = {}, {}
    for name, places in slots.items():
        gone = np.flatnonzero(~keep[name])
        for slot, units in places.items():
            stored = model.graph.by_name[slot.node].parameters[slot.role].stored
            if stored not in weights:
                weights[stored] = model.parameter(slot.node, slot.role).copy()
            np.moveaxis(weights[stored], slot.axis, 0)[np.isin(units, gone)] = 0
            owners.setdefault(stored, set()).add((slot.node, slot.role))
    for stored, weight in weights.items():
        form = Dense(weight)
        for node, role in owners[stored]:
            model.set_parameter(node, role, form)


def check(model, seed, empty=without_readers):
    channels = channel_groups(model)
    assert channels.groups, "nothing can be pruned"
    keep = drawn(channels, seed)
    batch = feeds(model)
    readable = {group.name for group in channels if group.exact and group.readers}
    keep = {name: mask for name, mask in keep.items() if name in readable}
    dense = model.copy()
    empty(dense, [channels[name] for name in keep], keep)
    expected = outputs_of(dense, batch)
    cut = channel_groups(dense).cut(keep)
    planned = {edge.name: edge.shape for edge in cut.resized(dense.graph).edges.values()}
    dense.shrink(cut)
    assert all(edge.shape == planned[name] for name, edge in dense.graph.edges.items() if edge.is_float and name in planned)
    assert relative_difference(expected, outputs_of(dense, batch)) < 1e-5


@pytest.mark.parametrize("seed", range(QUICK))
def test_onnx(seed):
    check(onnx_model(seed), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, ALL))
def test_more_onnx(seed):
    check(onnx_model(seed), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ALL))
def test_torch(seed):
    check(torch_model(seed), seed)


@pytest.mark.parametrize("seed", range(QUICK))
def test_zero_channels_of_onnx(seed):
    check(onnx_model(seed, activations=ZERO_STAYS), seed, without_writers)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, ALL))
def test_more_zero_channels_of_onnx(seed):
    check(onnx_model(seed, activations=ZERO_STAYS), seed, without_writers)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ALL))
def test_zero_channels_of_torch(seed):
    check(torch_model(seed, activations=ZERO_STAYS), seed, without_writers)


@pytest.mark.parametrize("seed", range(3))
def test_both_formats_have_the_same_groups(seed):
    sizes = [sorted((group.size, group.exact) for group in channel_groups(make(seed))) for make in (onnx_model, torch_model)]
    assert sizes[0] == sizes[1]
