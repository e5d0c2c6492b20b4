"""Gates on the command line: those of `compare`, and those on quality that `quantize` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .exit import DONE, GATE_FAILED, UNDECIDED
from .session import Session

if TYPE_CHECKING:
    from modelkit.core.model import Model
    from modelkit.data import Dataset


def exit_code(gates: Sequence[dict[str, Any]]) -> int:
    """1 when a gate failed, else 3 when one could not be decided."""
    if any(gate["passed"] is False for gate in gates):
        return GATE_FAILED
    return UNDECIDED if any(gate["passed"] is None for gate in gates) else DONE


def check_drops(
    session: Session,
    original: Model,
    result: Model,
    data: Dataset,
    gates: dict[str, float],
    device: str,
    threads: int | None,
    seed: int,
) -> int:
    """Measure both models on `data`, record measurements and gates in the report, and return the exit code."""
    from modelkit.bench.measure import measure
    from modelkit.bench.measurement import Subject
    from modelkit.bench.metrics.metric import higher_is_better
    from modelkit.bench.metrics.registry import find_metric
    from modelkit.report.gates import drop_limits, judge

    subjects = [Subject(str(model.path), model) for model in (original, result)]
    limits = drop_limits(gates)
    with session.stage("evaluating"):
        measured = measure(subjects, device=device, threads=threads, max_time=1.0, dataset=data, metrics=list(gates), seed=seed)
    session.report["measurements"] = [measurement_record(measurement) for measurement in measured]
    before, after = (measurement.quality for measurement in measured)
    metrics = []
    for name in gates:
        more = higher_is_better(find_metric(name))
        perfect = 1.0 if more else 0.0  # of a metric against the original, which has none itself
        baseline = before[name].value if name in before else perfect
        metrics.append({"name": name, "baseline": baseline, "candidate": after[name].value, "higher_is_better": more})
    session.report["gates"] += judge(limits, metrics, str(result.path))
    return exit_code(session.report["gates"])


def speed_gate(
    original: Model, result: Model, least: float, measured: float | None, threads: int | None, seed: int
) -> dict[str, Any]:
    """The gate min-speedup, as the report has it. measured: how much faster the result is, where that is known already."""
    if measured is None:
        from modelkit.costs import speedup_over

        measured = speedup_over(original, threads, seed)(result)
    return {"gate": f"min-speedup {least:g}", "value": measured, "passed": measured >= least}


def measurement_record(measurement: Any, samples: bool = False) -> dict[str, Any]:
    """A measurement as the report has it; raw samples only when asked for."""
    record = asdict(measurement)
    if not samples:
        record["latency_ms"]["samples"] = []
    return record
