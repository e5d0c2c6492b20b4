"""One run of a command: gathers its report and warnings, and at the end prints tables or JSON and writes report files."""

from __future__ import annotations

import json as json_module
import math
import os
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from modelkit import __version__
from modelkit.core.errors import ModelkitWarning

from .progress import Stage, stage


class Session:
    """`with Session("quantize", …) as session:` fill `session.report`; `session.exit_code` other than 0 ends the command with it.

    Every ModelkitWarning raised inside goes to standard error at once and into the report; other libraries' warnings are
    shown under --verbose only.
    """

    def __init__(
        self, name: str, *, json: bool, quiet: bool, verbose: bool, reports: Sequence[Path] | None, device: str = "cpu"
    ) -> None:
        self.json, self.quiet, self.verbose = json, quiet, verbose
        self.exit_code = 0
        self._reports = list(reports or [])
        self._device = device
        if self._reports:
            from modelkit.report.write import check_report_path

            for path in self._reports:
                check_report_path(path)
        self.report: dict[str, Any] = {
            "schema": "modelkit/report-1",
            "command": name,
            "modelkit": __version__,
            "seconds": 0.0,
            "warnings": [],
            "environment": {},
            "inputs": [],
            "output": None,
            "passes": [],
            "measurements": [],
            "comparison": None,
            "gates": [],
        }

    def __enter__(self) -> Session:
        self._started = time.perf_counter()
        self._catcher = warnings.catch_warnings()
        self._catcher.__enter__()
        warnings.simplefilter("always", ModelkitWarning)
        if not self.verbose:
            warnings.filterwarnings("ignore", category=UserWarning, message="(?s).*", append=True)
            for category in (FutureWarning, DeprecationWarning, RuntimeWarning, SyntaxWarning):
                warnings.simplefilter("ignore", category, append=True)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if isinstance(message, ModelkitWarning):
                self.warn(str(message))
            elif self.verbose:
                shown(message, category, *rest, **more)

        warnings.showwarning = show
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._catcher.__exit__(kind, error, trace)
        if error is not None:
            return
        from modelkit.bench.environment import environment

        self.report["environment"] = environment(self._device)
        self.report["seconds"] = round(time.perf_counter() - self._started, 3)
        self._emit()
        if self.exit_code:
            raise typer.Exit(self.exit_code)

    def warn(self, message: str) -> None:
        """Record a warning, once."""
        if message not in self.report["warnings"]:
            self.report["warnings"].append(message)
            print(f"warning: {message}", file=sys.stderr)

    def note(self, message: str) -> None:
        """A remark for people, not part of the report."""
        if not self.quiet:
            print(message, file=sys.stderr)

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Stage]:
        return stage(name, total, shown=not self.quiet)

    def _emit(self) -> None:
        plain = _plain(self.report)
        if self._reports:
            from modelkit.report import Report, write_report

            for path in self._reports:
                write_report(Report.model_validate(plain), path)
        _summarise(plain)
        if self.json:
            print(json_module.dumps(plain, indent=2, ensure_ascii=False))
        elif not self.quiet:
            from modelkit.report import Report
            from modelkit.report.tables import print_report

            print_report(Report.model_validate(plain), verbose=self.verbose)


def _summarise(plain: dict[str, Any]) -> None:
    """On GitHub's runners, what was measured goes to the page of the job too."""
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if not place or not (plain["measurements"] or plain["gates"]):
        return
    from modelkit.report import Report
    from modelkit.report.markdown import to_markdown

    try:
        with open(place, "a", encoding="utf-8") as file:
            file.write(to_markdown(Report.model_validate(plain)) + "\n")
    except OSError as error:  # the summary is an extra, and the result must not be lost for it
        print(f"warning: GITHUB_STEP_SUMMARY can't be written: {error.strerror or error}.", file=sys.stderr)


def _plain(value: Any) -> Any:
    """The same in JSON's own types: numbers that JSON has no word for become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # a NumPy scalar
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
