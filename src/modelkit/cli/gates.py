"""Gates on quality: the drop of a metric from the original to the result."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .exit import DONE, GATE_FAILED
from .session import Session

if TYPE_CHECKING:
    from modelkit.core.model import Model
    from modelkit.data import Dataset

_LOWER_IS_BETTER = ("perplexity", "mse", "kl")


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

    subjects = [Subject(str(model.path), model) for model in (original, result)]
    with session.stage("evaluating"):
        measured = measure(subjects, device=device, threads=threads, max_time=1.0, dataset=data, metrics=list(gates), seed=seed)
    session.report["measurements"] = [measurement_record(measurement) for measurement in measured]
    before, after = (measurement.quality for measurement in measured)
    failed = False
    for metric, allowed in gates.items():
        if metric in before:
            drop = before[metric].value - after[metric].value
        else:  # a metric against the original: its own value is the fidelity, 1 being no drop
            drop = 1.0 - after[metric].value
        if metric in _LOWER_IS_BETTER:
            drop = after[metric].value - (before[metric].value if metric in before else 0.0)
        passed = drop <= allowed
        session.report["gates"].append({"gate": f"max-drop {metric}={allowed:g}", "value": drop, "passed": passed})
        failed = failed or not passed
    return GATE_FAILED if failed else DONE


def measurement_record(measurement: Any, samples: bool = False) -> dict[str, Any]:
    """A measurement as the report has it; raw samples only when asked for."""
    record = asdict(measurement)
    if not samples:
        record["latency_ms"]["samples"] = []
    return record
