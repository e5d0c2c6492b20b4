"""Which of the refitted factors are taken."""

import numpy as np
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

    def error(*exponents):
        monkeypatch.setattr(fitting, "_EXPONENTS", exponents)
        chosen = passes.build("lowrank.refit", {})
        model, forms = fitting.fit(base, todo, choice, chosen, batches, samples=64, seed=0)
        assert set(forms) == {layer.name for unit in todo for layer in unit.layers}
        return effect(model, {}, batches, expected)

    alone = [error(exponent) for exponent in order]
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)
    assert error(*order) == pytest.approx(min(alone), rel=1e-5)
    assert np.isfinite(alone).all()
