"""A residual branch that goes leaves its mean: in a bias beside or behind it, else as an addend. In both formats."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelkit.analysis.channels import channel_groups
from modelkit.analysis.macs import total_macs
from modelkit.core import passes
from modelkit.core.pruning import Budget, PruningTask
from modelkit.passes.prune.ranking import Study, rank
from modelkit.publish import outputs_of, relative_difference
from tests.passes.both_formats import FAMILIES, opened


class Convolutions(nn.Module):
    """`shortcut`: the module on the other side of the sum. What the branch gives is its bias and hardly more."""

    def __init__(self, shortcut, head=True, branch_first=False):
        super().__init__()
        self.head, self.branch_first = head, branch_first
        self.stem, self.shortcut = nn.Conv2d(3, 8, 3, padding=1), shortcut
        self.a, self.b = nn.Conv2d(8, 32, 3, padding=1), nn.Conv2d(32, 8, 3, padding=1)
        self.out = nn.Linear(8, 5)
        self.b.weight.data *= 1e-4
        self.b.bias.data += 1

    def forward(self, x):
        x = F.relu(self.stem(x))
        sides = (self.shortcut(x), self.b(F.relu(self.a(x))))
        x = F.relu(sides[1] + sides[0] if self.branch_first else sides[0] + sides[1])
        return self.out(x.mean((2, 3))) if self.head else x.mean((2, 3))


class Blocks(nn.Module):
    """Three residual blocks; the two in the middle hardly depend on their inputs, and give numbers of both signs."""

    def __init__(self):
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
        self.a = nn.ModuleList([nn.Conv2d(8, 32, 3, padding=1) for _ in range(3)])
        self.b = nn.ModuleList([nn.Conv2d(32, 8, 3, padding=1) for _ in range(3)])
        for layer in self.b[1:]:
            layer.weight.data *= 1e-4
            layer.bias.data += torch.linspace(-1, 1, 8)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for a, b in zip(self.a, self.b, strict=True):
            x = F.relu(b(F.relu(a(x))) + x)
        return self.out(x.mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.out = nn.Linear(27, 16), nn.Linear(16, 64), nn.Linear(64, 16), nn.Linear(16, 5)
        self.shortcut = nn.Linear(16, 16)
        self.b.weight.data *= 1e-4
        self.b.bias.data += 1

    def forward(self, x):
        x = self.stem(x.reshape(x.shape[0], -1, 27))
        return self.out((self.shortcut(x) + self.b(F.relu(self.a(x)))).mean(1))


def pruned(make, family, share, round_to):
    """The original, what it was pruned to, and their inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
        x = torch.randn(64, 3, 9, 9).numpy()
    model = opened(module, (3, 9, 9), family)
    feeds = {model.graph.inputs[0].name: x}
    channels, limit = channel_groups(model), share * total_macs(model.graph)
    task = PruningTask(model.copy(), channels, total_macs, limit, Budget("macs", share), round_to, lambda: iter([feeds]))
    result = passes.build("prune.channel.obs", {}).prune(task)
    assert total_macs(result.graph) <= limit
    return model, result, feeds


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("module", "addends"), [
    (lambda: Convolutions(nn.Conv2d(8, 8, 1)), 0),
    (lambda: Convolutions(nn.Conv2d(8, 8, 1, bias=False)), None),
    (lambda: Convolutions(nn.Conv2d(8, 8, 1), branch_first=True), 0),
    (lambda: Convolutions(nn.Identity()), 0),
    (lambda: Convolutions(nn.Identity(), head=False), 1),
    (Tokens, 0),
])  # fmt: skip
def test_a_branch_goes(family, module, addends):
    model, result, feeds = pruned(module, family, 0.28, 8)
    assert not {"a", "b"} & set(result.graph.by_name)
    found = [node for node in result.graph.nodes if node.function == "add"]
    if addends is not None:  # numbers behind a layer without a bias are its bias in ONNX, and an addend in torch
        assert len(found) == addends
    assert relative_difference(outputs_of(model, feeds), outputs_of(result, feeds)) < 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_branches_leave_nothing_where_layers_around_make_up_for_them(family):
    """The last layer before those that go is fitted to what comes out behind them: sums and rectifiers go, too."""
    model, result, feeds = pruned(Blocks, family, 0.40, 32)
    functions = [node.function for node in result.graph.nodes]
    assert functions.count("add") == 1 and functions.count("relu") == 3
    assert relative_difference(outputs_of(model, feeds), outputs_of(result, feeds)) < 0.02


def test_of_several_allocations_the_one_that_does_least_harm_is_taken():
    """They are fitted on some batches and judged on others; without others, the first is taken."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
        x = torch.randn(256, 6).numpy()
    model = opened(module, (6,), "onnx")
    channels, name = channel_groups(model), model.graph.inputs[0].name
    batches = [{name: part} for part in x.reshape(8, 32, 6)]
    algorithm = passes.build("prune.channel.obs", {"measured": 96})
    first, second = (group.name for group in channels)
    allowed = {first: [1, 32], second: [1, 32]}
    rankings = rank(model, channels, batches, allowed, Study(96, 1e-3, 4096), 0)
    task = PruningTask(model, channels, total_macs, 0, Budget("macs", 0.5), 1, lambda: iter(batches))
    candidates = [(index, {first: a, second: b}) for index, (a, b) in enumerate([(2, 32), (24, 24), (32, 2), (24, 24)])]
    before = outputs_of(model, batches[0])
    assert algorithm._best(task, batches, rankings, candidates)[0] == 1
    assert algorithm._best(task, batches[:3], rankings, candidates)[0] == 0
    assert relative_difference(before, outputs_of(model, batches[0])) == 0, "trials leave the model as it was"
