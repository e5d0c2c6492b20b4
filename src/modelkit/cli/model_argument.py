"""MODEL on the command line: a file, a folder, a report that names one, or - for such a report on standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit.core.errors import ModelkitError, UnstatedInputs

from .data_argument import example_rows

if TYPE_CHECKING:
    from modelkit.core.model import Model


def open_models(
    arguments: Sequence[str], stage: Callable[[str], AbstractContextManager[Any]], data: str | None, **opening: Any
) -> list[Model]:
    """The models that are meant, in order. One whose file does not say what its inputs are (TorchScript, a state dict) takes
    those of the first of the others that does, or the shapes of `data`. `opening`: as `open_model` takes it."""
    from modelkit.models.opening import open_model

    paths = [model_path(argument) for argument in arguments]
    opened: dict[int, Model] = {}
    waiting: dict[int, UnstatedInputs] = {}
    for index, path in enumerate(paths):
        with stage(f"opening {path.name}"):
            try:
                opened[index] = open_model(path, **opening)
            except UnstatedInputs as unstated:
                waiting[index] = unstated
    known = next(iter(opened.values()), None)
    example = example_rows(data) if waiting else None
    for index, error in waiting.items():
        if known is not None:
            edges = known.graph.edges
            opening["bindings"] = {spec.name: (spec.dtype, edges[spec.name].shape or ()) for spec in known.graph.inputs}
        elif not example:
            raise error
        with stage(f"opening {paths[index].name}"):
            opened[index] = open_model(paths[index], **opening, example=example)
    return [opened[index] for index in range(len(paths))]


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
