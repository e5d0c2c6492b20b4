"""MODEL on the command line: a file, a folder, a report that names one, or - for such a report on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from modelkit.core.errors import ModelkitError


def model_path(argument: str) -> Path:
    """The model file that is meant. Raises ModelkitError when a report names none."""
    if argument == "-":
        if sys.stdin.isatty():
            raise ModelkitError(
                "- reads a report from standard input, and nothing is piped in.", "Pipe `modelkit … --json` into this command."
            )
        text = sys.stdin.read()
        if not text.strip():
            raise ModelkitError(
                "Standard input is empty.", "The command before the pipe failed, or lacked --json: see its message."
            )
        return _named_by_report(text, "standard input")
    path = Path(argument)
    if path.suffix.lower() == ".json" and path.is_file():
        return _named_by_report(path.read_text(errors="replace"), argument)
    return path


def _named_by_report(text: str, origin: str) -> Path:
    try:
        report = json.loads(text)
    except ValueError:
        raise ModelkitError(f"{origin} is not JSON.", "Give a model file, or a report written by modelkit --json.") from None
    schema = report.get("schema") if isinstance(report, dict) else None
    if schema != "modelkit/report-1":
        raise ModelkitError(
            f"{origin} is not a modelkit/report-1 report (schema: {schema!r}).", "Give a report written by modelkit --json."
        )
    output = report.get("output")
    if not isinstance(output, dict) or not isinstance(output.get("path"), str):
        raise ModelkitError(
            f"The report in {origin} has no output model (command: {report.get('command')}).",
            "Give the report of a command that writes a model, such as quantize.",
        )
    return Path(output["path"])
