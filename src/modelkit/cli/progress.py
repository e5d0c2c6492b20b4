"""Progress on standard error for anything that takes over a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_PATIENCE = 1.0  # seconds before anything is shown
T = TypeVar("T")


class Stage:
    """One step of work with a name and, where it is known, a number of parts."""

    def __init__(self, name: str, total: int | None, shown: bool) -> None:
        self._name, self._total, self._done = name, total, 0
        self._bar: Any = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(_PATIENCE, self._show) if shown else None
        if self._timer:
            self._timer.daemon = True
            self._timer.start()

    @property
    def total(self) -> int | None:
        return self._total

    def advance(self, by: int = 1) -> None:
        with self._lock:
            self._done += by
            if self._bar is not None:
                self._bar.update(self._task, completed=self._done)

    def show(self, what: str, part: float) -> None:
        """Say what is being done now, and the part (0 to 1) of it that is done."""
        with self._lock:
            self._name, self._done = what, int(part * (self._total or 100))
            if self._bar is not None:
                self._bar.update(self._task, description=what, completed=self._done)

    def each(self, items: Iterable[T]) -> Iterator[T]:
        for item in items:
            yield item
            self.advance()

    def _show(self) -> None:
        if not sys.stderr.isatty():
            print(f"{self._name} …", file=sys.stderr)
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
        with self._lock:
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._name, total=self._total, completed=self._done)
            self._bar.start()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None


@contextmanager
def stage(name: str, total: int | None = None, shown: bool = True) -> Iterator[Stage]:
    """Show `name` on standard error while the body runs, if it runs for more than a second."""
    current = Stage(name, total, shown)
    try:
        yield current
    finally:
        current.close()
