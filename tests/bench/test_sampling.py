from contextlib import nullcontext
from itertools import chain, repeat

import numpy as np
import pytest

from modelkit.bench.launch import Started
from modelkit.bench.measure import BLOCKS, LEAST_SAMPLES, take_turns
from modelkit.bench.sampling import runs_per_sample, sample_block, settle_down, timer_overhead, warm_up

MS = 1_000_000


class FakeClock:
    """A clock that only moves when something runs. `timed` runs for the next of `durations`; the last one repeats."""

    def __init__(self, *durations_ns, tick=0):
        self.now = 0
        self.tick = tick
        self.runs = 0
        self._durations = chain(durations_ns, repeat(durations_ns[-1] if durations_ns else 0))

    def __call__(self):
        self.now += self.tick
        return self.now

    def timed(self, runs):
        taken = sum(next(self._durations) for _ in range(runs))
        self.runs += runs
        self.now += taken
        return taken


def test_warm_up_stops_when_three_windows_agree():
    clock = FakeClock(10 * MS)
    done = warm_up(clock.timed, clock, seconds=10)
    assert done.stable is True
    assert done.run_ns == 10 * MS
    assert clock.now == 150 * MS  # three windows of 50 ms


def test_warm_up_outlasts_a_slow_start():
    clock = FakeClock(*(round(100 * MS * 0.8**i) for i in range(12)), 5 * MS)
    done = warm_up(clock.timed, clock, seconds=10)
    assert done.stable is True
    assert done.run_ns == 5 * MS


def test_warm_up_gives_up_at_its_deadline():
    clock = FakeClock(*(MS * (1 + i % 40) for i in range(100_000)))
    done = warm_up(clock.timed, clock, seconds=1)
    assert done.stable is not True
    assert 1e9 <= clock.now <= 1.1e9


def test_warm_up_of_a_very_slow_model_runs_once_and_claims_nothing():
    clock = FakeClock(5_000 * MS)
    done = warm_up(clock.timed, clock, seconds=1)
    assert (done.runs, done.stable) == (1, None)


@pytest.mark.parametrize(
    ("run_ns", "overhead_ns", "runs"), [(1000 * MS, 100, 1), (10_000, 100, 1), (5_000, 100, 2), (100, 100, 100)]
)
def test_runs_per_sample_keep_the_timer_below_one_percent(run_ns, overhead_ns, runs):
    assert runs_per_sample(run_ns, overhead_ns) == runs
    assert overhead_ns <= 0.01 * runs * run_ns


def test_timer_overhead():
    assert timer_overhead(FakeClock(tick=40)) == 40


def test_a_block_divides_by_its_runs_and_ends_in_time():
    clock = FakeClock(2 * MS)
    samples = sample_block(clock.timed, clock, seconds=0.1, runs=5)
    assert samples == [2 * MS] * 10


def test_a_block_has_one_sample_at_least():
    clock = FakeClock(900 * MS)
    assert sample_block(clock.timed, clock, seconds=0.1, runs=1) == [900 * MS]


def test_settling_takes_a_few_milliseconds_or_one_run_that_is_short():
    found = []
    for run_ns in (2 * MS, 20 * MS, 900 * MS):
        clock = FakeClock(run_ns)
        settle_down(clock.timed, clock, run_ns)
        found.append(clock.runs)
    assert found == [3, 1, 0]


class FakeWorker:
    """Stands in for a process: a block takes its seconds, or a run if that is longer."""

    def __init__(self, clock, run_seconds, log, name):
        self._clock, self._run, self._log, self._name = clock, run_seconds, log, name

    def awake(self):
        return nullcontext(self)

    def ask(self, request, seconds, settle):
        self._log.append(self._name)
        runs = max(1, round(seconds / self._run))
        self._clock.now += runs * self._run
        return {"samples": [self._run * 1e9] * runs, "joules": None, "clock_mhz": None}


def started(*run_seconds):
    clock, log = FakeClock(), []
    workers = [FakeWorker(clock, seconds, log, "abc"[i]) for i, seconds in enumerate(run_seconds)]
    return clock, log, [Started(worker, 0, 0, None, worker._run * 1e9, True) for worker in workers]


def test_models_take_turns_in_random_order():
    clock, log, turns = started(0.01, 0.01)
    parts = []
    take_turns(turns, 1.0, clock, np.random.default_rng(0), parts.append)
    pairs = {"".join(log[i : i + 2]) for i in range(0, 2 * (BLOCKS - 1), 2)}
    assert pairs == {"ab", "ba"}
    assert len(turns[0].blocks) == pytest.approx(BLOCKS, abs=1)
    assert parts == sorted(parts) and parts[-1] == pytest.approx(1.0)


def test_time_per_model_is_kept_unless_samples_are_too_few():
    clock, _, turns = started(0.01, 2.0)
    take_turns(turns, 1.0, clock, np.random.default_rng(0), lambda part: None)
    assert turns[0].samples.sum() == pytest.approx(1000, rel=0.1)
    assert turns[1].samples.size == LEAST_SAMPLES
