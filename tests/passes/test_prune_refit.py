"""Refits of a pruned model against least squares done plainly, layer by layer, in both formats."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modelkit.analysis.channels import channel_groups
from modelkit.core.forms import Dense
from modelkit.passes.prune.branches import Removal
from modelkit.passes.prune.refit import Refit, refit
from tests.passes.both_formats import FAMILIES, opened


class Clipped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(12, 24), nn.Linear(24, 10), nn.Linear(10, 4)

    def forward(self, x):
        return self.third(F.relu6(self.second(F.relu6(self.first(x)))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last, self.out = nn.Linear(12, 8), nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.first(x)
        return self.out(F.relu(x + self.last(F.relu(self.inner(x)))))


class Mixing(nn.Module):
    """The second layer mixes positions: the channels that go lie across its rows."""

    def __init__(self):
        super().__init__()
        self.first, self.positions, self.out = nn.Linear(3, 10), nn.Linear(4, 6), nn.Linear(10, 4)

    def forward(self, x):
        return self.out(self.positions(self.first(x.reshape(-1, 4, 3)).transpose(1, 2)).transpose(1, 2))


def case(module, family):
    """The model, calibration batches, and the cut that takes half of the units of the first hidden layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = module()
        for parameter in module.parameters():  # so that clips clip, on both sides
            parameter.data *= 5
        x = torch.randn(512, 12).numpy()
    model = opened(module, (12,), family)
    channels = channel_groups(model)
    name = "inner" if isinstance(module, Residual) else "first"
    group = next(group for group in channels if name in group.nodes and any(slot.node == name for slot in group.writers))
    keep = np.arange(group.size) % 2 == 0
    return model, [{model.graph.inputs[0].name: part} for part in np.split(x, 4)], x, channels.cut({group.name: keep}), keep


def layer(model, name):
    return (model.parameter(name, role).astype(np.float64) for role in ("weight", "bias"))


def plain(X, Y, W0, ridge):
    """min Σ ‖W x + b − y‖² + λ ‖W − W₀‖²"""
    centred = X - X.mean(0)
    pull = np.sqrt(ridge * (centred**2).sum() / X.shape[1])
    left = np.block([[X, np.ones((len(X), 1))], [pull * np.eye(X.shape[1]), np.zeros((X.shape[1], 1))]])
    found = np.linalg.lstsq(left, np.vstack([Y, pull * W0.T]), rcond=None)[0]
    return found[:-1].T, found[-1]


def relu6(x):
    return np.clip(x, 0, 6)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_is_fitted_to_the_original_from_what_it_now_reads(family):
    model, batches, x, cut, keep = case(Clipped, family)
    original, ridge = model.copy(), 1e-2
    model.shrink(cut)
    refit(original, model, cut, batches, Refit(ridge, 1 << 20, 0), (), Removal())
    (W1, b1), (W2, b2), (W3, b3) = (layer(original, name) for name in ("first", "second", "third"))
    wanted2 = relu6(x @ W1.T + b1) @ W2.T + b2
    seen = relu6(x @ W1[keep].T + b1[keep])
    W, b = plain(seen, wanted2, W2[:, keep], ridge)
    for found, expected in zip(layer(model, "second"), (W, b), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    W, b = plain(relu6(seen @ W.T + b), relu6(wanted2) @ W3.T + b3, W3, ridge)
    for found, expected in zip(layer(model, "third"), (W, b), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_rounds_fit_what_the_clip_behind_lets_through(family):
    def lost(rounds):
        model, batches, x, cut, keep = case(Clipped, family)
        original = model.copy()
        model.shrink(cut)
        refit(original, model, cut, batches, Refit(1e-3, 1 << 20, rounds), (), Removal())
        (W1, b1), (W2, b2) = (layer(original, name) for name in ("first", "second"))
        W, b = layer(model, "second")
        wanted = relu6(relu6(x @ W1.T + b1) @ W2.T + b2)
        return np.sum((relu6(relu6(x @ W1[keep].T + b1[keep]) @ W.T + b) - wanted) ** 2)

    assert lost(3) < 0.95 * lost(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_side_of_a_sum_is_fitted_to_the_sum(family):
    model, batches, x, cut, keep = case(Residual, family)
    original = model.copy()
    model.shrink(cut)
    refit(original, model, cut, batches, Refit(0.0, 1 << 20, 0), (), Removal())
    (W1, b1), (Wi, bi), (Wl, bl) = (layer(original, name) for name in ("first", "inner", "last"))
    stream = x @ W1.T + b1
    seen = np.maximum(stream @ Wi[keep].T + bi[keep], 0)
    W, b = plain(seen, np.maximum(stream @ Wi.T + bi, 0) @ Wl.T + bl, Wl[:, keep], 0.0)
    for found, expected in zip(layer(model, "last"), (W, b), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_across_whose_rows_channels_went_is_fitted_on_those_that_are_left(family):
    model, batches, x, cut, keep = case(Mixing, family)
    original = model.copy()
    assert 0 < keep.sum() < len(keep) == 10
    model.shrink(cut)
    model.set_parameter("positions", "weight", Dense(2 * model.parameter("positions", "weight")))
    refit(original, model, cut, batches, Refit(0.0, 1 << 20, 0), (), Removal())
    for found, expected in zip(layer(model, "positions"), layer(original, "positions"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    first, positions, out = (tuple(layer(original, name)) for name in ("first", "positions", "out"))
    seen = (x.reshape(-1, 4, 3) @ first[0].T + first[1]).transpose(0, 2, 1) @ positions[0].T + positions[1]
    rows = seen.transpose(0, 2, 1).reshape(-1, 10)
    W, b = plain(rows[:, keep], rows @ out[0].T + out[1], out[0][:, keep], 0.0)
    # ten channels of three numbers: the kept ones hold all of them
    found = tuple(layer(model, "out"))
    np.testing.assert_allclose(rows[:, keep] @ found[0].T + found[1], rows[:, keep] @ W.T + b, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_fixed_layers_stay_and_constants_lose_their_weight(family):
    model, batches, _, cut, keep = case(Clipped, family)
    original = model.copy()
    model.shrink(cut)
    refit(original, model, cut, batches, Refit(1e-3, 1 << 20, 0), {"third"}, Removal(constants=frozenset({"second"})))
    for found, expected in zip(layer(model, "third"), layer(original, "third"), strict=True):
        np.testing.assert_array_equal(found, expected)
    W, b = layer(model, "second")
    assert not W.any()
    edge = original.graph.by_name["second"].outputs[0]
    wanted = np.concatenate([values[edge] for values in original.observe(batches, [edge])])
    np.testing.assert_allclose(b, wanted.mean(0), rtol=1e-4, atol=1e-4)
