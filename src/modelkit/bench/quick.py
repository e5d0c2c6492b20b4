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


def quick_latency(
    candidates: Mapping[str, bytes | Path], feeds: Feeds, threads: int, budget_s: float = 0.5, rounds: int = LEAST_ROUNDS
) -> dict[str, list[float]]:
    """Milliseconds per run of each ONNX model (serialised, or a path) on the same feeds, in this process: one figure a round.

    Only one ONNX Runtime session lives at a time, as two would fight for the cores; the candidates take turns in rounds, and
    a figure is the first decile of its round, as noise from elsewhere can only add time. Figures of one round belong together:
    the machine's mood was much the same. Every candidate gets `rounds` rounds whatever the budget (seconds, loading included).
    Raises ModelkitError when a candidate does not run.
    """
    found: dict[str, list[float]] = {name: [] for name in candidates}
    deadline = time.perf_counter() + budget_s
    for done in range(MOST_ROUNDS):
        began = time.perf_counter()
        share = budget_s / (4 * len(candidates))  # of running; loading takes as long as it takes
        for name in list(candidates) if done % 2 == 0 else list(candidates)[::-1]:
            found[name].append(_decile_ms(candidates[name], feeds, threads, share))
        now = time.perf_counter()
        if done + 1 >= rounds and now + (now - began) > deadline:
            break
    return_memory()
    return found


def _decile_ms(model: bytes | Path, feeds: Feeds, threads: int, seconds: float) -> float:
    return_memory()
    path = model if isinstance(model, Path) else Path("candidate.onnx")
    session = create_session(model, threads)
    runner = SessionRunner(session, path, "cpu")
    runner.prepare(feeds)
    runner.timed(1, time.perf_counter_ns)
    samples: list[int] = []
    end = time.perf_counter() + seconds
    while len(samples) < LEAST_RUNS or time.perf_counter() < end:
        samples.append(runner.timed(1, time.perf_counter_ns))
    return sorted(samples)[len(samples) // 10] / 1e6
