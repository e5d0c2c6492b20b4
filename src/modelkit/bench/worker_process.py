"""The parent's end of a worker: starting it, asking it, stopping it while others run, and ending it whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import psutil

from modelkit.core.errors import ModelkitError


class WorkerProcess:
    """A process of its own for one model: two live ONNX Runtime sessions in one process fight through their thread pools.

    `subject` is how errors name the model. Use it as a context manager: leaving ends the process, stopped or not.
    """

    def __init__(self, subject: str, threads: int) -> None:
        self.subject = subject
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "modelkit.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # Ctrl-C goes to the parent alone, which then ends the workers
        )

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """The worker's answer. Raises ModelkitError with what it says is wrong, or how it died."""
        self.send(request, **arguments)
        return self.receive()

    def send(self, request: str, **arguments: Any) -> None:
        """Ask without waiting: `receive` gives the answer."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps({"request": request, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: `receive` finds out how

    def receive(self) -> dict[str, Any]:
        """The answer to what was sent. Raises as `ask` does."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        reply: dict[str, Any] = json.loads(line)
        if "what" in reply:
            raise ModelkitError(f"{self.subject}: {reply['what']}", reply["fix"])
        return reply

    @contextmanager
    def awake(self) -> Iterator[WorkerProcess]:
        """The worker is stopped by `pause` except inside this: a thread pool that spins would slow the others down."""
        self._signal("resume")
        try:
            yield self
        finally:
            self.pause()

    def pause(self) -> None:
        self._signal("suspend")

    def close(self) -> None:
        if self._process.poll() is None:
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)  # and whatever it started
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # an unsent request to a worker that died
        self._errors.close()

    def _signal(self, name: str) -> None:
        try:
            getattr(psutil.Process(self._process.pid), name)()
        except psutil.NoSuchProcess:
            pass  # the next `ask` says how it died

    def _death(self) -> ModelkitError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = f" Its last message was: {lines[-1].strip()}" if lines else ""
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if ended == "SIGKILL":
            return ModelkitError(
                f"{self.subject}: the measuring process was killed, probably because memory ran out.{last}",
                "Use a smaller --batch-size, or a machine with more memory.",
            )
        return ModelkitError(
            f"{self.subject}: the measuring process crashed ({ended}).{last}", "Try another --runtime, or update it."
        )
