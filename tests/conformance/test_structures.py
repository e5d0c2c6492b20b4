"""What couples channels is found in both formats, and removing channels changes nothing but what they contributed."""

import numpy as np
import pytest
import torch

from modelkit.analysis.channels import channel_groups
from modelkit.analysis.macs import total_macs
from modelkit.costs import parameters
from modelkit.models.torch.model import TorchModel
from modelkit.publish import into_family, outputs_of, relative_difference
from tests.conformance.test_random_graphs import drawn, without_readers
from tests.structures import STRUCTURES

pytestmark = pytest.mark.usefixtures("silent")


def torch_model(name, tmp_path):
    structure = STRUCTURES[name]
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        example = (torch.zeros(2, *structure.shape),)
        exported = torch.export.export(structure.build(), example, dynamic_shapes=({0: batch},))
    return TorchModel.of(exported, tmp_path / f"{name}.pt2")


def check(model, name):
    channels = channel_groups(model)
    assert sorted((group.size, group.exact) for group in channels) == STRUCTURES[name].groups
    batch = {
        model.graph.inputs[0].name: np.random.default_rng(0).standard_normal((3, *STRUCTURES[name].shape)).astype(np.float32)
    }
    expected = outputs_of(model, batch)
    keep = drawn(channels, seed=1)
    cut = channels.cut(keep)
    smaller = model.copy()
    smaller.shrink(cut)
    assert total_macs(smaller.graph) == total_macs(cut.resized(model.graph)) <= total_macs(model.graph)
    assert parameters(smaller.graph) == parameters(cut.resized(model.graph)) <= parameters(model.graph)
    assert [output.shape for output in outputs_of(smaller, batch)] == [output.shape for output in expected]
    settable = {n.name for n in model.graph.nodes if n.kind != "recurrent"}
    exact = [g for g in channels if g.exact and g.readers and {slot.node for slot in g.readers} <= settable]
    dense = model.copy()
    without_readers(dense, exact, keep)
    expected = outputs_of(dense, batch)
    dense.shrink(channel_groups(dense).cut({group.name: keep[group.name] for group in exact}))
    assert relative_difference(expected, outputs_of(dense, batch)) < 1e-5


@pytest.mark.parametrize("name", STRUCTURES)
def test_torch(name, tmp_path):
    check(torch_model(name, tmp_path), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_onnx(name, tmp_path):
    check(into_family(torch_model(name, tmp_path), "onnx"), name)
