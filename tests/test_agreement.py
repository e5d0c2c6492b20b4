"""A changed model beside the original: over several batches as over one, and with nothing of a run kept in memory."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from modelkit.agreement import compare, relative_error
from modelkit.algorithms.quantize.round_to_nearest import round_to_nearest
from modelkit.publish import outputs_of
from tests.passes.both_formats import FAMILIES, opened

X = np.random.default_rng(0).standard_normal((7, 12)).astype(np.float32)


@pytest.fixture(params=FAMILIES)
def model(request):
    return opened(nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 5)), (12,), request.param)


def test_errors_over_several_batches_are_those_of_all_their_samples(model):
    changed = model.copy()
    layers = [node.name for node in model.graph.layers()]
    for name in layers:
        changed.set_parameter(name, "weight", round_to_nearest(model.parameter(name, "weight"), 4))
    (name,) = (spec.name for spec in model.graph.inputs)
    _, errors, agreement = compare(model, changed, layers, [{name: X}])
    first, in_parts, moved = compare(model, changed, layers, [{name: X[:3]}, {name: X[3:6]}, {name: X[6:]}])
    assert in_parts == pytest.approx(errors, rel=1e-4) and moved == pytest.approx(agreement, rel=1e-4)
    before, after = (outputs_of(m, {name: X})[0] for m in (model, changed))
    assert moved["relative_error"] == pytest.approx(relative_error(before, after), rel=1e-4)
    assert relative_error(after[:3], first[0]) < 1e-6


def test_outputs_hold_no_memory_of_the_run(model):
    (name,) = (spec.name for spec in model.graph.inputs)
    assert all(array.base is None for array in outputs_of(model, {name: X}))
