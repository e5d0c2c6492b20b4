"""The training loop on a module of two numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from modelkit.core.errors import ModelkitError
from modelkit.distill.checkpoint import Checkpoint
from modelkit.distill.training import Schedule, split, train


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))


class Fit:
    """The squared error of y = 3 x on sample numbers."""

    def __init__(self, module, broken_from=math.inf):
        self.module, self.calls, self.broken_from = module, 0, broken_from

    def __call__(self, rows, training):
        self.calls += 1
        x = torch.from_numpy(np.asarray(rows, np.float32)) / 50
        loss = ((self.module.slope - 3) * x).square().mean()
        return loss * math.nan if training and self.calls > self.broken_from else loss


def run(schedule, checkpoint=None, samples=40, objective=None, watch=lambda *_: None, fixed=None):
    module = Line()
    objective = objective(module) if objective else Fit(module)
    history = train(module, objective, samples, schedule, "cpu", checkpoint or Checkpoint(None, {}), watch, fixed)
    return module, history


def test_it_learns_and_tells_how():
    seen = []
    module, history = run(
        Schedule(epochs=40, batch_size=8, lr=0.2, precision="float32"), watch=lambda kind, _, n: seen.append((kind, n))
    )
    assert float(module.slope.detach()) == pytest.approx(3, abs=0.1)
    assert history.after < 0.05 * history.before and len(history.held_out) == 40
    assert [n for kind, n in seen if kind == "epoch"] == list(range(1, 41)) and seen.count(("step", 1)) == 1


def test_the_best_weights_are_kept():
    module, history = run(Schedule(epochs=6, lr=50.0, optimizer="sgd", precision="float32", warmup=0.0))
    assert history.after == min([history.before, *history.held_out])
    rows = split(40, Schedule())[1]
    assert float(Fit(module)(rows, False).detach()) == pytest.approx(history.after, rel=1e-5)


@pytest.mark.parametrize(("start", "expected"), [(0.0, (0.4, 0.4)), (2.99, (0.004, 0.04))])
def test_the_rate_is_one_that_learns(start, expected, monkeypatch):
    monkeypatch.setattr(Line, "__init__", lambda self: (nn.Module.__init__(self), setattr(self, "slope", slope(start)))[0])
    schedule = Schedule(epochs=1, batch_size=8, lr=0.4, search=True, precision="float32")
    module, history = run(schedule)
    assert expected[0] <= history.lr <= expected[1] and history.after < history.before
    assert run(replace(schedule, search=False))[1].lr == 0.4


def slope(value):
    return nn.Parameter(torch.tensor(value))


def test_steps_without_a_number_change_nothing():
    module, history = run(Schedule(epochs=2, precision="float32"), objective=lambda module: Fit(module, broken_from=0))
    assert float(module.slope.detach()) == 0 and history.best == 0 and history.after == history.before


def test_a_loss_that_is_no_number_from_the_start_is_an_error():
    class Broken(Fit):
        def __call__(self, rows, training):
            return super().__call__(rows, training) * math.nan

    with pytest.raises(ModelkitError, match="not a number"):
        run(Schedule(epochs=1), objective=Broken)


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 5, 6, 13, "evaluation"])
def test_what_goes_on_ends_as_if_it_never_stopped(tmp_path, stop, monkeypatch):
    schedule = Schedule(epochs=4, batch_size=8, lr=0.1, precision="float32")
    whole, expected = run(schedule)
    monkeypatch.setattr(Checkpoint, "due", lambda self: True)

    def kill(kind, values, number):
        if kind == "step" and number == stop:
            raise Killed

    class KilledAtEvaluation(Fit):
        def __call__(self, rows, training):
            if stop == "evaluation" and not training and self.calls > 10:  # that of the second epoch
                raise Killed
            return super().__call__(rows, training)

    with pytest.raises(Killed):
        run(schedule, Checkpoint(tmp_path / "c", {"a": 1}), objective=KilledAtEvaluation, watch=kill)
    module, history = run(schedule, Checkpoint(tmp_path / "c", {"a": 1}))
    assert history.resumed == (10 if stop == "evaluation" else stop - 1)
    assert history.held_out == pytest.approx(expected.held_out, rel=1e-6)
    assert history.training == pytest.approx(expected.training, rel=1e-6)
    assert float(module.slope.detach()) == pytest.approx(float(whole.slope.detach()), rel=1e-6)


def test_a_rate_rises_then_falls():
    schedule = Schedule(warmup=0.1)
    rates = [schedule.rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 and rates.index(1.0) == 9
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False)) and rates[-1] < 0.001


@pytest.mark.parametrize("samples", [2, 3, 40, 100_000])
def test_samples_are_either_learnt_or_held_out(samples):
    learning, held = split(samples, Schedule())
    assert sorted([*learning, *held]) == list(range(samples)) and 1 <= len(held) <= 512


def test_one_sample_is_too_few():
    with pytest.raises(ModelkitError, match="too few"):
        split(1, Schedule())


def test_a_fixed_batch_is_filled_up():
    sizes = set()

    class Watching(Fit):
        def __call__(self, rows, training):
            sizes.add(len(rows))
            return super().__call__(rows, training)

    run(Schedule(epochs=1, precision="float32"), objective=Watching, fixed=7)
    assert sizes == {7}
