"""The rounds of a comparison, with a clock that only moves when something runs."""

from contextlib import contextmanager

import numpy as np
import pytest

from modelkit.bench.compare import ALPHA, StoppingRule, _one_look, by_round, by_turn
from modelkit.bench.launch import Started
from modelkit.bench.rounds import FEWEST, GRACE, plan_round, play
from tests.bench.test_sampling import FakeClock


class FakeProcess:
    def __init__(self, clock, run_seconds):
        self._clock, self._run = clock, run_seconds

    @contextmanager
    def awake(self):
        yield self

    def ask(self, request, seconds, settle):
        assert request == "block" and settle
        runs = max(1, round(seconds / self._run))
        self._clock.now += runs * self._run
        return {"samples": [self._run * 1e9] * runs, "joules": None, "clock_mhz": None}


class Machine:
    """Contenders of fixed run times, each made slower or faster by luck that lasts as long as its process; `start_seconds` pass
    at each start."""

    def __init__(self, *run_seconds, start_seconds=0.5, luck=0.0, seed=0):
        self.clock, self.orders = FakeClock(), []
        self._runs, self._start, self._luck = run_seconds, start_seconds, luck
        self._rng = np.random.default_rng(seed)

    @contextmanager
    def start(self, order):
        self.orders.append(tuple(order))
        self.clock.now += self._start
        found = []
        for run in self._runs:
            taken = run * float(np.exp(self._luck * self._rng.standard_normal()))
            found.append(Started(FakeProcess(self.clock, taken), 100, 120, None, taken * 1e9, True))
        yield found

    def play(self, decided, max_time=30.0, seed=0):
        return play(self.start, len(self._runs), max_time, decided, self.clock, np.random.default_rng(seed), lambda part: None)


def never(rounds, share):
    return False


def test_time_is_kept_and_the_last_look_knows_it_is_the_last():
    machine, shares = Machine(0.001, 0.001), []
    rounds = machine.play(lambda rounds, share: bool(shares.append(share)))
    assert 27 <= machine.clock.now <= 30.5
    assert len(rounds) == pytest.approx(30, abs=2)  # half a second of starting, and as much of measuring
    assert shares == sorted(shares) and shares[-1] == 1.0 and shares[-2] < 1.0
    assert {(0, 1), (1, 0)} == set(machine.orders)


def test_it_stops_when_it_is_decided():
    machine = Machine(0.001, 0.001)
    assert len(machine.play(lambda rounds, share: len(rounds) == 7)) == 7


def test_slow_starts_leave_time_for_measuring():
    machine = Machine(0.01, 0.01, start_seconds=40.0)
    (only,) = machine.play(never)
    assert 40 + GRACE * 30 - 1 <= machine.clock.now <= 40 + GRACE * 30 + 1
    assert len(only[0].blocks) > 20


def test_slow_models_have_two_turns_a_round():
    machine = Machine(1.0, 1.0)
    rounds = machine.play(never)
    assert all(len(lap.blocks) >= 2 for laps in rounds for lap in laps)
    assert machine.clock.now <= 36


@pytest.mark.parametrize(("start", "run"), [(0.5, 0.0002), (0.5, 0.01), (3.0, 0.01), (20.0, 0.01), (0.5, 0.5)])
@pytest.mark.parametrize("max_time", [2.0, 30.0])
def test_plans_fill_the_time(start, run, max_time):
    plan = plan_round(max_time, start, run, 2)
    measuring = 2 * plan.turns * plan.seconds
    assert plan.turns >= 2 and plan.seconds >= 0.9 * min(run, 0.02)
    rounds = int(max_time / (start + measuring) + 1e-9)
    assert rounds >= FEWEST or max(rounds, 1) * (start + measuring) >= 0.99 * max_time


@pytest.mark.parametrize(("start", "rounds"), [(0.5, 30), (3.4, 7), (3.9, 7), (8.0, 2)])
def test_slow_starts_leave_enough_rounds(start, rounds):
    assert len(Machine(0.001, 0.001, start_seconds=start).play(never)) == pytest.approx(rounds, abs=1)


@pytest.mark.parametrize("start", [8.0, 20.0, 40.0])
def test_luck_of_a_few_starts_is_allowed_for(start):
    wrong = 0
    for seed in range(40):
        rounds = Machine(0.001, 0.001, start_seconds=start, luck=0.03, seed=seed).play(never)
        assert len(rounds) < FEWEST
        found = _one_look(rounds, 1, "latency_ms.p50", ALPHA["latency_ms.p50"], seed)
        wrong += found.low > 0 or found.high < 0
    assert wrong <= 5


def verdicts(machine, max_time=30.0, tolerance=0.01):
    stop = StoppingRule(1, tolerance, (), seed=1)
    machine.play(stop, max_time)
    return stop.estimates[0]


def test_luck_of_a_process_is_not_taken_for_a_difference():
    """Turns of two lucky and unlucky processes agree perfectly, for as long as they live."""
    wrong = 0
    for seed in range(12):
        found = verdicts(Machine(0.001, 0.001, luck=0.02, seed=seed))
        wrong += found.low > 0 or found.high < 0
    assert wrong <= 2
    assert verdicts(Machine(0.001, 0.00105, luck=0.01)).high < 0


def test_limits_are_told_apart_too():
    machine = Machine(0.0012, 0.001, luck=0.01)
    stop = StoppingRule(1, 0.01, [1.2], seed=1)
    assert len(machine.play(stop)) > 15  # 20% faster is soon clear, on which side of 1.2 it is never
    machine = Machine(0.0012, 0.001, luck=0.01)
    assert len(machine.play(StoppingRule(1, 0.01, [], seed=1))) < 12


def test_ratios_are_baseline_over_candidate():
    rounds = Machine(0.002, 0.001).play(lambda rounds, share: len(rounds) == 2)
    assert by_round(rounds, 1, "latency_ms.p50") == pytest.approx([np.log(2)] * 2)
    assert by_turn(rounds, 1, "throughput_per_s") == pytest.approx([np.log(2)] * sum(len(laps[0].blocks) for laps in rounds))
