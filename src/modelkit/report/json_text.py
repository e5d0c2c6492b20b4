"""The report as one JSON document."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from .records import Report


def to_json(report: Report) -> str:
    return json.dumps(_finite(report.document()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity; options and histories may hold some."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
