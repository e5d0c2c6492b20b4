"""What was measured for one case, and whether it meets the bars that the project set itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .accuracy import Scores
from .cases import Case
from .latency import Latency
from .tools import NNCF, OURS

ORIGINAL = "fp32"
LOSS = 0.01  # a peer kept the accuracy if it may have lost no more than this
CLEAR_WIN = 0.95
TIME_SHARE = 0.5
MIB = 1 << 20


@dataclass
class Produced:
    """One tool's file: seconds and peak memory of the process that made it, or why there is none."""

    seconds: float = 0.0
    peak_bytes: int = 0
    library_bytes: int = 0
    file_bytes: int = 0
    failure: str | None = None

    @property
    def above_libraries(self) -> int:
        return self.peak_bytes - self.library_bytes


@dataclass
class Result:
    """`allowed_bytes`: what our process may take above its libraries."""

    case: Case
    produced: dict[str, Produced]
    scores: Scores
    latencies: Mapping[str, Latency]
    allowed_bytes: int


@dataclass
class Verdict:
    bar: str
    case: str
    text: str
    met: bool


@dataclass
class Report:
    """`machine`: lines that say what it was measured on."""

    machine: Sequence[str]
    results: list[Result] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


HEADERS = (
    "model",
    "tool",
    "seconds",
    "MiB above libraries",
    "size, MiB",
    "quality [95%]",
    "SQNR, dB",
    "latency, ms",
    "least",
    "speed-up",
)


def rows(result: Result) -> list[tuple[str, ...]]:
    found = []
    original = result.latencies[ORIGINAL]
    for name, made in result.produced.items():
        if made.failure:
            found.append((result.case.title, name, made.failure, *[""] * 7))
            continue
        low, high = result.scores.interval(name)
        latency = result.latencies[name]
        found.append(
            (
                result.case.title,
                name,
                "" if name == ORIGINAL else f"{made.seconds:.1f}",
                "" if name == ORIGINAL else f"{made.above_libraries / MIB:.0f}",
                f"{made.file_bytes / MIB:.2f}",
                f"{result.scores.metric} {result.scores.values[name]:.4f} [{low:.4f}, {high:.4f}]",
                "" if name == ORIGINAL else f"{result.scores.sqnr[name]:.1f}",
                f"{latency.median:.3f}",
                f"{latency.least:.3f}",
                f"{1 / latency.ratio(original)[0]:.2f}×",
            )
        )
    return found


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    found = [verdict for result in results for verdict in _case_verdicts(result)]
    ratios = {r.case.title: _against_fastest(r) for r in results}
    wins = {title: against[1][0] for title, against in ratios.items() if against}
    if wins:
        title = min(wins, key=lambda name: wins[name])
        text = f"{wins[title]:.2f} × the latency of {ratios[title][0]}"  # type: ignore[index]
        found.append(
            Verdict(f"at most {CLEAR_WIN} × the faster accurate peer in one case", title, text, wins[title] <= CLEAR_WIN)
        )
    return found


def _case_verdicts(result: Result) -> list[Verdict]:
    title, made = result.case.title, result.produced
    if made[OURS].failure:
        return [Verdict("works", title, made[OURS].failure or "", False)]
    found = []
    peers = _peers(result)
    if peers:
        best = max(peers, key=lambda name: result.scores.values[name])
        difference, (low, high) = result.scores.difference(OURS, best)
        text = f"{difference:+.4f} [{low:+.4f}, {high:+.4f}] against {best}"
        found.append(Verdict("as accurate as the better peer", title, text, high >= 0))
    against = _against_fastest(result)
    if against:
        peer, (ratio, low, high) = against
        text = f"{ratio:.3f} × [{low:.3f}, {high:.3f}] the latency of {peer}"
        found.append(Verdict("not slower than the faster accurate peer", title, text, low <= 1))
    nncf = [made[name].seconds for name in made if name.startswith(NNCF) and not made[name].failure]
    if nncf:
        share = made[OURS].seconds / min(nncf)
        text = f"{made[OURS].seconds:.1f} s, {share:.2f} × {NNCF}"
        found.append(Verdict(f"at most {TIME_SHARE} × the time of {NNCF}", title, text, share <= TIME_SHARE))
    taken, allowed = made[OURS].above_libraries, result.allowed_bytes
    text = f"{taken / MIB:.0f} of {allowed / MIB:.0f} MiB"
    found.append(Verdict("memory: 3 × model + a batch of activations + histograms", title, text, taken <= allowed))
    return found


def _peers(result: Result) -> list[str]:
    return [name for name, made in result.produced.items() if name not in (ORIGINAL, OURS) and not made.failure]


def _against_fastest(result: Result) -> tuple[str, tuple[float, float, float]] | None:
    """The fastest peer that kept the accuracy, and our latency against it. It is chosen in every other round and held against
    ours in the rest, as of several that are equally fast the one chosen was a little lucky."""
    kept = [name for name in _peers(result) if result.scores.difference(name, ORIGINAL)[1][1] >= -LOSS]
    if result.produced[OURS].failure or not kept:
        return None
    fastest = min(kept, key=lambda name: result.latencies[name].every_other(0).median)
    ours, other = (result.latencies[name].every_other(1) for name in (OURS, fastest))
    return fastest, ours.ratio(other)


def markdown(report: Report) -> str:
    lines = [*report.machine, ""]
    lines += _table(HEADERS, [row for result in report.results for row in rows(result)])
    lines += ["", *(f"- {title}: skipped, {reason}" for title, reason in report.skipped.items()), ""]
    checked = [(v.bar, v.case, v.text, "yes" if v.met else "**no**") for v in verdicts(report.results)]
    lines += _table(("bar", "model", "measured", "met"), checked)
    return "\n".join(lines) + "\n"


def _table(headers: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (headers, *body)) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return [line(headers), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, body)]
