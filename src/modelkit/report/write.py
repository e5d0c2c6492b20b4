"""Writing a report to a file, in the format that its extension names."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..core.errors import ModelkitError
from .benchmarks import to_benchmarks
from .html import to_html
from .json_text import to_json
from .junit import to_junit
from .markdown import to_markdown
from .records import Report

FORMATS: dict[str, Callable[[Report], str]] = {".json": to_json, ".md": to_markdown, ".html": to_html, ".xml": to_junit}

BENCHMARKS = ".smaller-is-better.json"  # beside a JSON report with measurements


def check_report_path(path: Path) -> None:
    """Everything about a report's place that can fail before work starts. Raises ModelkitError."""
    if path.suffix.lower() not in FORMATS:
        raise ModelkitError(f"{path} has no extension of a report.", f"End it in {', '.join(FORMATS)}.")
    if path.is_dir():
        raise ModelkitError(f"{path} is a folder.", "Give a file name for the report.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ModelkitError(f"The report {path} can't be written there.", "Give a folder that exists and may be written to.")


def write_report(report: Report, path: Path) -> None:
    """Write it beside its place, then rename: a reader sees the old report or the whole new one."""
    check_report_path(path)
    _write(path, FORMATS[path.suffix.lower()](report))
    if path.suffix.lower() == ".json" and report.measurements:
        _write(path.with_suffix(BENCHMARKS), to_benchmarks(report))


def _write(path: Path, content: str) -> None:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(content)
            os.chmod(name, 0o666 & ~_umask())  # mkstemp makes it private
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise ModelkitError(f"The report {path} can't be written: {error.strerror}.", "Give another place for it.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
