"""Measurements as the list that github-action-benchmark reads with `tool: customSmallerIsBetter`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from . import digest, figures
from .records import Report


def to_benchmarks(report: Report) -> str:
    return json.dumps(list(_entries(report)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _entries(report: Report) -> Iterator[dict[str, Any]]:
    for row in digest.rows(report):
        m = row.measurement
        subject = f"{row.name} ({digest.setting(m)}, batch {m.batch_size})"
        for key in ("p50", "p99"):
            half = figures.half_width(m.latency_ms.ci95) if key == "p50" else None
            yield _entry(f"{subject}: latency {key}", "ms", getattr(m.latency_ms, key), half)
        if m.peak_memory_bytes is not None:
            yield _entry(f"{subject}: peak memory", "bytes", m.peak_memory_bytes)
        if row.bytes is not None:
            yield _entry(f"{subject}: size", "bytes", row.bytes)
        for metric, quality in m.quality.items():
            if quality.value is not None and metric not in digest.HIGHER_IS_BETTER:
                yield _entry(f"{subject}: {metric}", metric, quality.value, figures.half_width(quality.ci95))
            elif quality.value is not None and metric in figures.SHARES:
                yield _entry(f"{subject}: 1 - {metric}", "share", 1 - quality.value, figures.half_width(quality.ci95))


def _entry(name: str, unit: str, value: float, half_width: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "unit": unit, "value": value}
    return found if half_width is None else {**found, "range": f"± {half_width:.3g}"}
