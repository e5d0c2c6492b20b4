"""A quick answer to "which of these variants is fastest here?", for choices made while a model is being quantised."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from modelkit.core.model import Feeds
from modelkit.models.onnx.session import return_memory
from modelkit.runtimes.onnxruntime import SessionRunner, create_session

LEAST_RUNS = 3
LEAST_ROUNDS = 2  # one round can't tell a slow candidate from an unlucky moment
MOST_ROUNDS = 8


def quick_latency(candidates: Mapping[str, bytes | Path], feeds: Feeds, threads: int, budget_s: float = 0.5) -> dict[str, float]:
    """Milliseconds per run of each ONNX model (serialised, or a path) on the same feeds, in this process.

    Only one ONNX Runtime session lives at a time, as two would fight for the cores; the candidates take turns in rounds, and
    the figure is the smallest of a candidate's first deciles, as noise from elsewhere can only add time. Every candidate gets
    two rounds whatever the budget (seconds, loading included). Raises ModelkitError when a candidate does not run.
    """
    best: dict[str, float] = {}
    deadline = time.perf_counter() + budget_s
    for round_number in range(MOST_ROUNDS):
        began = time.perf_counter()
        share = budget_s / (4 * len(candidates))  # of running; loading takes as long as it takes
        order = list(candidates) if round_number % 2 == 0 else list(candidates)[::-1]
        for name in order:
            taken = _decile_ms(candidates[name], feeds, threads, share)
            best[name] = min(taken, best.get(name, taken))
        now = time.perf_counter()
        if round_number + 1 >= LEAST_ROUNDS and now + (now - began) > deadline:
            break
    return best


def _decile_ms(model: bytes | Path, feeds: Feeds, threads: int, seconds: float) -> float:
    path = model if isinstance(model, Path) else Path("candidate.onnx")
    session = create_session(model, threads)
    runner = SessionRunner(session, path, "cpu")
    runner.prepare(feeds)
    runner.timed(1, time.perf_counter_ns)
    samples: list[int] = []
    end = time.perf_counter() + seconds
    while len(samples) < LEAST_RUNS or time.perf_counter() < end:
        samples.append(runner.timed(1, time.perf_counter_ns))
    del session, runner
    return_memory()
    return sorted(samples)[len(samples) // 10] / 1e6
