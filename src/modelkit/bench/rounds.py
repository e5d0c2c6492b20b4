"""The rounds of a comparison: in each, every contender is started afresh and they take turns in random order.

A process keeps the luck of its memory layout for life (Mytkowicz et al. 2009, "Producing wrong data without doing anything
obviously wrong"), so turns of the same two processes are no independent evidence, however many there are. Only new processes
are (Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from .launch import Started

MOST = 200  # rounds: beyond, they are made longer
FEWEST = 7  # rounds that the test of signs needs to say anything
TURN_SECONDS = 0.05
LEAST_TURNS, USUAL_TURNS, MOST_TURNS = 2, 8, 60
LEAST_TURN_SECONDS = 0.02
GRACE = 0.25  # of the time, kept for measuring when the first start took most of it

Round = list[Started]  # by contender
Start = Callable[[Sequence[int]], AbstractContextManager[Round]]  # starts the contenders in this order


@dataclass(frozen=True)
class Plan:
    """A round: how many turns each contender has, and for how many seconds."""

    turns: int
    seconds: float


def plan_round(max_time: float, start_seconds: float, run_seconds: float, contenders: int) -> Plan:
    """Half of a round is measuring: whether the luck of starting or the noise of turns is worse is not known beforehand, and so
    neither costs more than twice the best. `start_seconds` is what starting and warming up all contenders takes, `run_seconds`
    a run of the slowest. Where starts are slow, less is measured, so that FEWEST rounds fit into `max_time` seconds; where not
    even that is enough, rounds are made to fill it."""
    least = LEAST_TURNS * max(run_seconds, LEAST_TURN_SECONDS) * contenders
    measuring = max(start_seconds, max_time / MOST - start_seconds, least)
    fitting = max_time / (FEWEST + 0.5) - start_seconds  # no two starts take exactly as long
    if fitting >= least:
        measuring = min(measuring, fitting)
    else:
        rounds = max(1, int(max_time / (start_seconds + measuring)))
        measuring = max(least, max_time / rounds - start_seconds)
    each = measuring / contenders
    turn = max(min(TURN_SECONDS, each / USUAL_TURNS), run_seconds)
    turns = int(np.clip(each / turn, LEAST_TURNS, MOST_TURNS))
    return Plan(turns, each / turns)


def play(
    start: Start,
    contenders: int,
    max_time: float,
    decided: Callable[[list[Round], float], bool],
    clock: Callable[[], float],
    rng: np.random.Generator,
    progress: Callable[[float], None],
) -> list[Round]:
    """Rounds until `decided` (told all rounds, and the share of the time that is over: 1 at the last call) or until `max_time`
    seconds are over. There is always one. Processes start, warm up and take turns in an order drawn anew each time."""
    rounds: list[Round] = []
    began = clock()
    deadline = began + max_time
    plan = Plan(LEAST_TURNS, LEAST_TURN_SECONDS)
    while True:
        opened = clock()
        with start([int(i) for i in rng.permutation(contenders)]) as started:
            ready = clock()
            if not rounds:
                deadline = max(deadline, ready + GRACE * max_time)
                run_seconds = max(it.run_ns for it in started) / 1e9
                plan = plan_round(deadline - began, ready - opened, run_seconds, contenders)
            for _ in range(plan.turns):
                for index in rng.permutation(contenders):
                    started[index].take(plan.seconds, settle=True)
                progress(min(1.0, (clock() - began) / (deadline - began)))
        rounds.append(started)
        now = clock()
        last = now + (now - opened) > deadline
        if decided(rounds, 1.0 if last else (now - began) / (deadline - began)) or last:
            return rounds
