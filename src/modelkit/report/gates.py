"""Gates: limits that a comparison must keep, given as flags or in a pyproject.toml, and what a comparison says to them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ModelkitError

TABLE = "[tool.modelkit.gates]"
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
COUNTED = {"max-bytes": "bytes", "max-macs": "macs", "max-memory": "peak_memory_bytes"}
KINDS = ("max-drop", "min-speedup", *COUNTED)
NO_DROP = {"sqnr": "it is in decibels, and the original's own is infinite"}
ROUNDING = 1e-12  # 0.914 − 0.904 is a drop of 0.01, though not in floating point
METRIC_OF = {"min-speedup": "latency_ms.p50", **COUNTED}


@dataclass(frozen=True)
class Limit:
    """One gate. `metric` is what must have been measured; `share`: the limit is a share of the baseline's value."""

    kind: str
    metric: str
    value: float
    text: str
    share: bool = False

    @property
    def is_quality(self) -> bool:
        return self.kind == "max-drop"


def limits_from(flags: Mapping[str, Any], folder: Path) -> list[Limit]:
    """The gates of the command line (by kind; max-drop is a list of METRIC=DROP), and those of the nearest pyproject.toml in
    `folder` or above it that has any. The command line's win. Raises ModelkitError for what is not a gate."""
    found: dict[tuple[str, str], Limit] = {}
    for origin, given in ((TABLE, _from_pyproject(folder)), ("", flags)):
        for kind, value in given.items():
            if value is not None and value != []:
                for limit in _limits(kind, value, origin):
                    found[kind, limit.metric] = limit
    return list(found.values())


def drop_limits(drops: Mapping[str, float]) -> list[Limit]:
    """Gates on quality: metric → the drop allowed."""
    return [_drop(metric, drop, "--max-drop") for metric, drop in drops.items()]


def _limits(kind: str, value: Any, origin: str) -> list[Limit]:
    where = f"{origin} {kind}" if origin else f"--{kind}"
    if kind not in KINDS:
        raise ModelkitError(f"{TABLE} has an unknown gate {kind!r}.", f"Use {', '.join(KINDS)}.")
    if kind == "max-drop":
        return [_drop(metric, drop, where) for metric, drop in _drops(value, where).items()]
    if kind == "min-speedup":
        least = _number(str(value).lower().rstrip("x×"), where, "1.2")
        if least <= 0:
            raise ModelkitError(f"{where} {value} is not a speed-up.", "Write it as 1.2: at least 1.2 times as fast.")
        return [Limit(kind, METRIC_OF[kind], least, f"{kind} {value}")]
    amount, share = _amount(str(value), where)
    return [Limit(kind, METRIC_OF[kind], amount, f"{kind} {value}", share)]


def _drop(metric: str, drop: Any, where: str) -> Limit:
    if metric in NO_DROP:
        raise ModelkitError(f"{where}: {metric} has no drop, as {NO_DROP[metric]}.", "Use agreement, cosine or kl.")
    value = _number(drop, f"{where} {metric}=", "accuracy=0.01")
    return Limit("max-drop", metric, value, f"max-drop {metric}={value:g}")


def _drops(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    found = {}
    for pair in [value] if isinstance(value, str) else value if isinstance(value, Sequence) else [str(value)]:
        metric, sign, drop = str(pair).rpartition("=")
        if not sign or not metric:
            raise ModelkitError(f"{where} {pair!r} names no metric.", "Write it as accuracy=0.01.")
        found[metric.strip()] = drop.strip()
    return found


def _number(value: Any, where: str, example: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ModelkitError(f"{where}{' ' * (not where.endswith('='))}{value} is not a number.", f"Write it as {example}.")
    return number


def _amount(text: str, where: str) -> tuple[float, bool]:
    """ "5MB", "5 MiB", "300M", "1.5e9", or a share of the baseline: "50%", 0.5."""
    match = re.fullmatch(r"\s*([\d.]+(?:e[+-]?\d+)?)\s*(%|[kmgt]i?)?b?\s*", text.lower())
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    if match is None or number <= 0:
        raise ModelkitError(
            f"{where} {text} is not an amount.", "Write it as 5MB, 300M or 1.5G, or as a share of the baseline: 50%."
        )
    if match[2] == "%":
        return number / 100, True
    if not match[2] and number <= 1:
        return number, True
    return number * UNITS[match[2] or ""], False


def _from_pyproject(folder: Path) -> dict[str, Any]:
    for place in (folder, *folder.parents):
        path = place / "pyproject.toml"
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if "tool.modelkit" not in text.replace('"', ""):
            continue
        gates = _parse(path, text).get("tool", {}).get("modelkit", {}).get("gates")
        if gates is None:
            continue
        if not isinstance(gates, dict):
            raise ModelkitError(f"{TABLE} in {path} is not a table.", "Write gates as min-speedup = 1.2, one a line.")
        return {kind.replace("_", "-"): value for kind, value in gates.items()}
    return {}


def _parse(path: Path, text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise ModelkitError(
                f"{path} has gates, and Python below 3.11 can't read TOML by itself.", "Install it with `pip install tomli`."
            ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelkitError(f"{path} is not valid TOML: {error}.", "Correct it.") from error


def judge(limits: Sequence[Limit], metrics: Sequence[Mapping[str, Any]], model: str | None) -> list[dict[str, Any]]:
    """The report's gates for one candidate, from its metrics as the report has them.

    A speed-up is decided by its interval: it passes when all of it is at least the limit, fails when all is below, and is
    undecided (None) between. Quality is that of the data given, exactly; so are bytes and MACs. Raises ModelkitError for a
    metric that was not measured."""
    found = {metric["name"]: metric for metric in metrics}
    return [{"gate": it.text, **_judged(it, found), "model": model} for it in limits]


def _judged(limit: Limit, metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    metric = metrics.get(limit.metric)
    if metric is None or metric["candidate"] is None:
        raise ModelkitError(
            f"The gate {limit.text} is on {limit.metric}, which was not measured.",
            f"Measure it (--metric {limit.metric} with --data), or drop the gate."
            if limit.is_quality
            else "Drop the gate, or measure models and devices that have it.",
        )
    if limit.kind == "max-drop":
        drop = metric["candidate"] - metric["baseline"]
        drop = -drop if metric["higher_is_better"] else drop
        return {"value": drop + 0.0, "passed": drop <= limit.value + ROUNDING}
    if limit.kind == "min-speedup":
        ends = metric["ci95"]
        if ends is None:
            return {"value": metric["ratio"], "passed": None}
        passed = True if ends[0] >= limit.value else False if ends[1] < limit.value else None
        return {"value": metric["ratio"], "passed": passed}
    most = limit.value
    if limit.share:
        if not metric["baseline"]:
            raise ModelkitError(f"The gate {limit.text} is a share of the baseline, which has none.", "Give an amount, as 5MB.")
        most *= metric["baseline"]
    return {"value": metric["candidate"], "passed": metric["candidate"] <= most}
