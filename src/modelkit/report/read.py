"""Reading a report back: it is also an input of commands, as the output of the one before in a pipe."""

from __future__ import annotations

import json

from pydantic import ValidationError

from ..core.errors import ModelkitError
from .records import SCHEMA, Report


def read_report(content: str | bytes, origin: str) -> Report:
    """The report in this JSON text; `origin` is what errors call it. Raises ModelkitError when it is none of this version."""
    fix = f"Give a report that a modelkit command wrote with --json ({SCHEMA})."
    if not content.strip():
        raise ModelkitError(f"{origin} is empty, not a report.", f"Check the command before it in the pipe. {fix}")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelkitError(f"{origin} is not whole JSON: {error}.", fix) from error
    if not isinstance(document, dict) or not str(document.get("schema", "")).startswith("modelkit/report-"):
        raise ModelkitError(f"{origin} is JSON, but not a modelkit report.", fix)
    if document["schema"] != SCHEMA:
        raise ModelkitError(
            f"{origin} is a {document['schema']}, and this modelkit reads {SCHEMA}.", "Use the modelkit that wrote it."
        )
    try:
        return Report.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelkitError(f"{origin} is not a whole report: {where}: {first['msg']}.", fix) from error
