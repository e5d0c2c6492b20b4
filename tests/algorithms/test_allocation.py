"""Allocation against every combination of levels."""

import itertools

import numpy as np
import pytest

from modelkit.algorithms.allocation import allocate, interpolated, meet


def _case(seed, groups=4, levels=5):
    random = np.random.default_rng(seed)
    effects = {str(i): np.sort(random.exponential(1, levels))[::-1].copy() for i in range(groups)}
    for values in effects.values():
        values[-1] = 0.0
    price = random.uniform(1, 5, groups)

    def cost(chosen):  # neighbours multiply: what a width saves depends on the next one
        widths = np.array([chosen[str(i)] + 1 for i in range(groups)])
        return float(price @ widths + (widths[:-1] * widths[1:]).sum())

    return effects, cost


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
def test_close_to_the_best_of_all_combinations(seed, share):
    effects, cost = _case(seed)
    limit = share * cost({name: len(values) - 1 for name, values in effects.items()})
    found = allocate(effects, cost, limit)
    assert found is not None
    assert cost(found) <= limit

    def total(levels):
        return sum(effects[name][level] for name, level in zip(effects, levels, strict=True))

    every = [levels for levels in itertools.product(range(5), repeat=4)]
    feasible = [total(levels) for levels in every if cost(dict(zip(effects, levels, strict=True))) <= limit]
    assert total(found.values()) <= min(feasible) + 0.25 * (max(feasible) - min(feasible))


def test_a_step_of_no_price_is_taken():
    effects = {"a": np.array([3.0, 2.0, 1.0, 0.0])}
    assert allocate(effects, lambda levels: [1, 2, 2, 3][levels["a"]], 2) == {"a": 2}


def test_nothing_when_the_limit_is_out_of_reach():
    effects, cost = _case(0)
    assert allocate(effects, cost, cost(dict.fromkeys(effects, 0)) - 1) is None


def test_effects_between_measured_widths_follow_the_errors():
    errors = np.array([0.0, 1.0, 2.0, 4.0, 8.0])  # 0 … 4 units removed
    effects = interpolated(errors, {0: 64.0, 2: 4.0})  # the square of the error
    np.testing.assert_allclose(effects, [64.0, 16.0, 4.0, 2.0, 0.0])  # proportional beyond the widest that was measured


def test_effects_never_rise_with_the_width():
    effects = interpolated(np.array([0.0, 1.0, 2.0, 4.0, 8.0]), {1: 1.0, 3: 2.0})
    assert (np.diff(effects) <= 0).all()


def test_meet_takes_the_slowest_of_those_that_are_fast_enough():
    """The machine gives 30% less than predicted, and what is proposed costs a multiple of 5."""
    measured = []

    def measure(candidate):
        measured.append(0.7 * 100 / candidate)
        return measured[-1]

    speedup, candidate = meet(lambda limit: limit // 5 * 5, measure, 1.9, 50.0)
    assert candidate == 35 and speedup == pytest.approx(2.0)
    assert measured == pytest.approx([1.4, 2.0])


def test_meet_gives_the_fastest_where_nothing_is_fast_enough():
    proposals = iter([3.0, 4.0, 5.0, None, None, None])
    assert meet(lambda limit: next(proposals), {3.0: 1.1, 4.0: 1.3, 5.0: 1.2}.__getitem__, 2.0, 50.0) == (1.3, 4.0)
    assert meet(lambda limit: None, lambda candidate: 1.0, 2.0, 50.0) is None


def test_meet_looks_between_the_nearest_limits_where_less_is_not_faster():
    def measure(limit):
        return 1.73 if limit >= 43 else 2.05 if limit >= 40 else 2.42 if limit >= 37 else 2.19

    speedup, limit = meet(int, measure, 2.0, 43.0)
    assert (speedup, limit >= 40) == (2.05, True)


def test_meet_takes_what_is_just_below_rather_than_what_is_much_faster():
    assert meet(int, lambda limit: 1.97 if limit >= 40 else 2.4, 2.0, 43.0) == (1.97, 43)
    assert meet(int, lambda limit: 1.9 if limit >= 40 else 2.4, 2.0, 43.0)[0] == 2.4
    assert meet(int, lambda limit: 1.97 if limit >= 40 else 2.1, 2.0, 43.0)[0] == 2.1


def test_meet_goes_as_far_as_can_be_proposed():
    """The machine gives half of what is predicted, and nothing costs less than 30."""
    speedup, candidate = meet(lambda limit: limit if limit >= 30 else None, lambda candidate: 50 / candidate, 1.9, 50.0)
    assert 30 <= candidate < 33 and speedup == 50 / candidate


@pytest.mark.parametrize("power", [0.5, 0.7, 1.0, 1.6])
@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("wanted", [1.5, 2.0])
def test_meet_comes_to_lie_just_above(power, noise, wanted):
    """Also where speed rises more slowly, or faster, than costs fall, and measurements scatter."""
    rng = np.random.default_rng(0)
    measured = []

    def measure(candidate):
        measured.append((100 / candidate) ** power * (1 + noise * rng.uniform(-1, 1)))
        return measured[-1]

    speedup, _ = meet(lambda limit: limit, measure, wanted, 100 / wanted)
    assert wanted <= speedup <= 1.06 * wanted and speedup == measured[-1]
    assert len(measured) <= 5


def test_meet_gets_there_where_much_of_the_time_can_not_be_saved():
    """The speed rises with a far smaller power of the limit than 1, which the first trials show."""
    found = meet(lambda limit: limit, lambda limit: 1.75 / (1 + limit / 8), 1.5, 4.0)
    assert found is not None and 1.5 <= found[0] <= 1.6


def test_meet_measures_no_candidate_twice():
    """Nothing lies between 40 and 80: the faster one is taken, though it is far from what was asked for."""
    measured = []

    def measure(candidate):
        measured.append(candidate)
        return 100 / candidate

    assert meet(lambda limit: 80 if limit >= 60 else 40, measure, 1.9, 80.0) == (2.5, 40)
    assert measured == [80, 40]
