"""Which of the refitted factors are taken."""

import pytest
import torch
from torch import nn

from modelkit.analysis.effects import effect
from modelkit.core import passes
from modelkit.lowrank import fitting
from modelkit.lowrank.choices import of_rank, units
from modelkit.models.torch.model import TorchModel
from tests.models.torch.networks import save_pt2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", [(1.0, 0.5), (0.5, 1.0)])
def test_those_nearer_to_the_original_outputs_are_taken(tmp_path, monkeypatch, seed, order):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(24, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 8))
    x = torch.randn(96, 24) * torch.logspace(1, -2, 24)
    base = TorchModel.open(save_pt2(tmp_path / "m.pt2", net, x))
    batches = [{base.graph.inputs[0].name: x.numpy()}]
    todo = units(base.graph, [layer.name for layer in base.graph.layers()])
    choice = {fitting.key(unit): of_rank(unit, 4) for unit in todo}
    expected = list(base.observe(batches, []))

    seen = []

    def recorded(*given):
        seen.append(effect(*given))
        return seen[-1]

    monkeypatch.setattr(fitting, "_EXPONENTS", order)
    monkeypatch.setattr(fitting, "effect", recorded)
    model, forms = fitting.fit(base, todo, choice, passes.build("lowrank.refit", {}), batches, samples=96, seed=0)
    assert set(forms) == {layer.name for unit in todo for layer in unit.layers}
    assert len(seen) == 2 and seen[0] != pytest.approx(seen[1], rel=1e-3)
    assert effect(model, {}, batches, expected) == pytest.approx(min(seen), rel=1e-5)
