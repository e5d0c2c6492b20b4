"""Can verdicts be trusted? `modelkit compare` beside hyperfine, pytest-benchmark and medians taken one after the other.

    python benchmarks/measurement.py [--cases WORD] [--trials N] [--minutes M] [--save]

Each trial of a case asks every tool, in random order, for a verdict on the same two models, and appends what they said to
`benchmarks/verdicts/trials.jsonl`, which is kept; a later run goes on where an earlier one ended, so that a long benchmark can be
taken in pieces while a machine is quiet. A tool whose share of right verdicts is surely on one side of its bar is asked no more.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import page

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "benchmarks" / "models" / "verdicts"


def main() -> None:
    from benchmarks.verdicts.cases import CASES, files, surroundings
    from benchmarks.verdicts.tools import OURS, TOOLS, install_peers
    from modelkit.bench.cpu import cpu_name, usable_cores

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="only cases whose name holds this")
    parser.add_argument("--tools", default="", help="only tools whose name holds this")
    parser.add_argument("--trials", type=int, help="of each case, instead of its own number")
    parser.add_argument("--seconds", type=float, help="for a verdict, instead of each case's own")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after the trial in which these are over")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "verdicts" / "trials.jsonl")
    parser.add_argument("--save", action="store_true", help="write the table into docs/benchmarks.md")
    parser.add_argument("--overhead", action="store_true", help="only measure what measuring adds to a latency")
    arguments = parser.parse_args()
    install_peers()
    if arguments.overhead:
        print(overhead())
        return
    deadline = time.monotonic() + 60 * arguments.minutes
    chosen = [case for case in CASES if arguments.cases in case.name]
    if arguments.seconds:
        chosen = [replace(case, seconds=arguments.seconds) for case in chosen]
    rows, machine = read(arguments.results), f"{cpu_name()}, {usable_cores()} cores"
    for trial in range(max((arguments.trials or case.trials for case in chosen), default=0)):
        for case in chosen:
            if trial >= (arguments.trials or case.trials):
                continue
            wanted = [tool for tool in TOOLS if arguments.tools in tool and (case.peers or tool == OURS)]
            asked = [tool for tool in wanted if not finished(rows, case, tool, trial)]
            random.Random(f"{case.name}{trial}").shuffle(asked)
            for tool in asked:
                if time.monotonic() > deadline:
                    break
                with surroundings(case, trial):
                    began = time.monotonic()
                    verdict = TOOLS[tool](case, *files(case, MODELS))
                    row = {"case": case.name, "tool": tool, "trial": trial, "verdict": verdict}
                    row |= {"seconds": round(time.monotonic() - began, 2), "at": round(time.time()), "machine": machine}
                rows.append(row)
                arguments.results.parent.mkdir(parents=True, exist_ok=True)
                with arguments.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{trial:3} {case.name}: {tool}: {verdict} ({row['seconds']} s)", file=sys.stderr, flush=True)
    text = table(rows, chosen, list(TOOLS), OURS)
    print(text)
    if arguments.save:
        page.save("measurement", table(rows, CASES, list(TOOLS), OURS))


def finished(rows: list[dict[str, Any]], case: Any, tool: str, trial: int) -> bool:
    """Whether this trial was made, or the tool's share is clear enough already."""
    mine = [row for row in rows if (row["case"], row["tool"]) == (case.name, tool)]
    if any(row["trial"] == trial for row in mine):
        return True
    low, high = interval(sum(case.good(row["verdict"]) for row in mine), len(mine))
    bar = 1 - case.bar if case.same else case.bar
    return len(mine) >= 10 and (low >= bar or high < bar)


def interval(right: int, n: int) -> tuple[float, float]:
    from modelkit.bench.statistics import wilson_interval

    return wilson_interval(right, n) if n else (0.0, 1.0)


def table(rows: list[dict[str, Any]], cases: list[Any], tools: list[str], ours: str) -> str:
    """Shares of false alarms (the same model) or of slow-downs seen, with Wilson's 95% intervals."""
    said = defaultdict(list)
    for row in rows:
        said[row["case"], row["tool"]].append(row)
    lines = ["| case | bar | " + " | ".join(tools) + " |", "|---|---|" + "---|" * len(tools)]
    for case in cases:
        cells = []
        for tool in tools:
            mine = said[case.name, tool]
            if not mine:
                cells.append("–")
                continue
            right = sum(case.good(row["verdict"]) for row in mine)
            count = len(mine) - right if case.same else right
            low, high = interval(count, len(mine))
            seconds = sorted(row["seconds"] for row in mine)[len(mine) // 2]
            cells.append(
                f"{count} of {len(mine)} [{low:.0%}, {high:.0%}], {seconds:.0f} s" + _undecided(case, mine, tool == ours)
            )
        bar = f"false alarms ≤ {case.bar:.0%}" if case.same else f"seen ≥ {case.bar:.0%} in {case.seconds:.0f} s"
        lines.append(f"| {case.name} | {bar} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _undecided(case: Any, mine: list[dict[str, Any]], shown: bool) -> str:
    counts = {verdict: sum(row["verdict"] == verdict for row in mine) for verdict in ("same", "inconclusive")}
    return f" ({counts['same']} same, {counts['inconclusive']} inconclusive)" if shown and case.same else ""


def overhead() -> str:
    """What measuring adds to the median of a 0.2 ms model: blocks of samples as a worker takes them, against runs timed by
    nothing but two calls of the clock, in turns in one process."""
    from statistics import median

    import numpy as np

    from benchmarks.verdicts.cases import CASES, files
    from modelkit.bench.sampling import runs_per_sample, sample_block, timer_overhead
    from modelkit.runtimes.onnxruntime import OnnxRuntime

    baseline, _ = files(CASES[0], MODELS)
    runner = OnnxRuntime().load(baseline, "cpu", 1)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 16, 8, 8)).astype(np.float32)}
    runner.prepare(feeds)
    clock, run = time.perf_counter_ns, runner._session.run
    runs = runs_per_sample(200_000, timer_overhead(clock))
    ratios, times = [], []
    for turn in range(100):
        found = {}
        for which in ("bare", "ours") if turn % 2 else ("ours", "bare"):
            if which == "ours":
                found[which] = median(sample_block(lambda n: runner.timed(n, clock), clock, 0.1, runs))
            else:
                taken, end = [], clock() + 100_000_000
                while clock() < end:
                    start = clock()
                    run(["y"], feeds)
                    taken.append(clock() - start)
                found[which] = median(taken)
        ratios.append(found["ours"] / found["bare"])
        times.append(found["bare"] / 1e6)
    drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return (
        f"Measuring a model of {median(times):.3f} ms adds {median(ratios) - 1:+.2%} to its median "
        f"(95% interval {low - 1:+.2%} to {high - 1:+.2%}; 100 pairs of blocks of 0.1 s in turns)."
    )


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
