"""After pruning without a refit, what layers and batch norms give has the mean and the variance that it had, in both formats."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelkit.analysis.channels import channel_groups
from modelkit.analysis.norms import fold_norms
from modelkit.passes.prune.restore import restore
from tests.passes.both_formats import FAMILIES, opened


class PreActivation(nn.Module):
    """Norms that can't be folded: none stands right behind a layer that it alone reads."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv, self.norm2 = nn.Conv2d(16, 8, 3, padding=1), nn.BatchNorm2d(24)
        self.last, self.norm3 = nn.Conv2d(24, 12, 1), nn.BatchNorm1d(12)
        self.out = nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.conv(F.relu(self.norm1(x)))
        x = self.last(F.relu(self.norm2(torch.cat([x, y], 1))))
        return self.out(self.norm3(F.relu(x).mean((2, 3))))


class Groups(nn.Module):
    """Layers that least squares can't fit, but a factor and a shift can."""

    def __init__(self):
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.up, self.out = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, x):
        return self.out(F.relu(self.up(F.relu(self.depthwise(F.relu(self.stem(x)))))))


def pruned(module, family):
    """The original, the pruned and restored model, its batches, and the cut."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = module()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor, low in ((part.weight, 0.5), (part.bias, -0.5), (part.running_mean, -0.5), (part.running_var, 0.5)):
                    nn.init.uniform_(tensor, low, low + 1)
        x = torch.randn(64, 3, 8, 8).numpy() + 0.5
    model = opened(module, (3, 8, 8), family)
    fold_norms(model)
    channels = channel_groups(model)
    batches = [{model.graph.inputs[0].name: part} for part in np.split(x, 4)]
    cut = channels.cut({group.name: np.arange(group.size) % 3 > 0 for group in channels if group.size > 4})
    original = model.copy()
    model.shrink(cut)
    return original, model, batches, cut


def moments(model, batches, edge):
    values = np.concatenate([found[edge] for found in model.observe(batches, [edge])])
    rows = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1]).astype(np.float64)
    return rows.mean(0), rows.std(0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("module", "restored"),
    [(PreActivation, {"norm1", "conv", "norm2", "last", "norm3", "out"}), (Groups, {"depthwise", "up", "out"})],
)
def test_the_moments_are_those_of_the_original(family, module, restored):
    original, model, batches, cut = pruned(module, family)
    nodes = [node for node in original.graph.nodes if node.is_layer or node.kind == "norm"]
    assert restored | {"stem"} == {node.name for node in nodes}
    before = {node.name: moments(model, batches, node.outputs[0]) for node in nodes}
    restore(original, model, cut, batches, (), seed=0)
    off = {}
    for node in nodes:
        edge = node.outputs[0]
        kept = cut.edges.get(edge, {}).get(1, slice(None))
        mean, deviation = (values[kept] for values in moments(original, batches, edge))
        now_mean, now_deviation = moments(model, batches, edge)
        if node.name in restored:
            np.testing.assert_allclose(now_mean, mean, atol=0.02 * deviation.max(), err_msg=node.name)
            np.testing.assert_allclose(now_deviation, deviation, rtol=0.05, err_msg=node.name)
            off[node.name] = np.abs(before[node.name][0] - mean).max() / deviation.max()
    assert max(off.values()) > 0.1, "nothing was to be restored"


class Mixing(nn.Module):
    """The second layer mixes positions: the channels that go lie across its rows."""

    def __init__(self):
        super().__init__()
        self.stem, self.positions, self.out = nn.Linear(3, 16), nn.Linear(64, 6), nn.Linear(16, 4)

    def forward(self, x):
        return self.out(self.positions(self.stem(x.flatten(2).transpose(1, 2)).transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_across_whose_rows_channels_went_keep_the_moments_of_what_is_left(family):
    original, model, batches, cut = pruned(Mixing, family)
    restore(original, model, cut, batches, (), seed=0)
    edge = original.graph.by_name["positions"].outputs[0]
    before = np.concatenate([cut.remains(edge, values[edge]) for values in original.observe(batches, [edge])])
    after = np.concatenate([values[edge] for values in model.observe(batches, [edge])])
    assert before.shape == after.shape
    np.testing.assert_allclose(after.mean((0, 1)), before.mean((0, 1)), atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_layers_stay(family):
    original, model, batches, cut = pruned(PreActivation, family)
    restore(original, model, cut, batches, {"norm2", "out"}, seed=0)

    def as_cut(name, role):
        values = original.parameter(name, role)
        for axis, kept in cut.parameters.get((name, role), {}).items():
            values = values.take(kept, axis)
        return values

    for role in ("weight", "bias"):
        for name in ("norm2", "out"):
            np.testing.assert_array_equal(model.parameter(name, role), as_cut(name, role))
        assert not np.array_equal(model.parameter("conv", role), as_cut("conv", role))
