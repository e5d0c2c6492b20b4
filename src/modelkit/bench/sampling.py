"""Taking latencies: warming up until they are stable, and blocks of samples. The clock is handed in, so tests need none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from statistics import median

from modelkit.runtimes.runtime import Clock

Timed = Callable[[int], int]  # runs → nanoseconds that they took

WINDOW_NS = 50_000_000  # warm-up compares medians of windows this long, or a tenth of its time
WINDOWS = 3
TOLERANCE = 0.03  # the medians of the last windows differ by less: stable
SETTLE_NS = 5_000_000  # runs at the start of a block that only bring caches and clocks back
SLOW_NS = 100_000_000  # for runs this long, cold caches are no matter
OVERHEAD = 0.01  # the timer's part of a sample


@dataclass(frozen=True)
class WarmUp:
    """`run_ns` is the last window's median. `stable` is None when there was no time for enough windows to tell."""

    run_ns: float
    runs: int
    stable: bool | None


def warm_up(timed: Timed, clock: Clock, seconds: float) -> WarmUp:
    """Run until the medians of three windows in a row lie within 3%, or for `seconds`; at least once."""
    deadline = clock() + round(seconds * 1e9)
    width = min(WINDOW_NS, round(seconds * 1e8))
    medians: list[float] = []
    runs = 0
    while True:
        window: list[int] = []
        opened = clock()
        while not window or (clock() - opened < width and clock() < deadline):
            window.append(timed(1))
        runs += len(window)
        medians.append(median(window))
        last = medians[-WINDOWS:]
        if len(last) == WINDOWS and max(last) <= min(last) * (1 + TOLERANCE):
            return WarmUp(last[-1], runs, True)
        if clock() >= deadline:
            return WarmUp(last[-1], runs, False if len(last) == WINDOWS else None)


def timer_overhead(clock: Clock) -> float:
    """Nanoseconds that a sample costs beyond the runs in it."""
    return median(-clock() + clock() for _ in range(101))


def runs_per_sample(run_ns: float, overhead_ns: float) -> int:
    """How many runs to time together so that the timer is less than 1% of the sample."""
    return max(1, ceil(overhead_ns / (OVERHEAD * max(run_ns, 1.0))))


def settle_down(timed: Timed, clock: Clock, run_ns: float) -> None:
    """A few uncounted runs of a model that takes about `run_ns`: another one ran since its last block."""
    began = clock()
    while run_ns < SLOW_NS:
        timed(1)
        if clock() - began >= SETTLE_NS:
            return


def sample_block(timed: Timed, clock: Clock, seconds: float, runs: int) -> list[float]:
    """Nanoseconds per run, one value per sample of `runs` runs, for `seconds` and at least one sample."""
    samples: list[float] = []
    deadline = clock() + round(seconds * 1e9)
    while not samples or clock() < deadline:
        samples.append(timed(runs) / runs)
    return samples
