"""The process that a model is measured in: nothing else runs in it. `python -m modelkit.bench.worker`, started by bench.

It reads one JSON request per line from standard input, and answers each with one JSON line on standard output. Arrays
travel in .npz files that the requests name. It ends when standard input does, or when its parent dies.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array, numpy_dtype
from modelkit.runtimes.registry import require_runtime
from modelkit.runtimes.runtime import Clock, Runner

from .energy import energy_counters, joules_between
from .memory import keep_freed_blocks, peak_resident_bytes, reset_peak
from .nvml import clock_mhz
from .sampling import runs_per_sample, sample_block, settle_down, timer_overhead, warm_up

Answer = dict[str, Any]


class Worker:
    """One model in one runtime. Its public methods are the requests."""

    def __init__(self, clock: Clock = time.perf_counter_ns) -> None:
        self._clock = clock
        self._runner: Runner
        self._device = "cpu"
        self._run_ns = 0.0
        self._runs = 1

    def load(self, runtime: str, path: str, device: str, threads: int, cpus: Sequence[int] | None = None) -> Answer:
        """The peak of resident memory until the model was loaded, in bytes. `cpus`: the only ones that may be used."""
        if cpus is not None:
            os.sched_setaffinity(0, cpus)  # before a library starts threads, as they inherit it
        self._device = device
        self._runner = require_runtime(runtime).load(Path(path), device, threads)
        return {"peak": peak_resident_bytes()}

    def warm_up(self, feeds: str, seconds: float) -> Answer:
        """From here on the model runs on these feeds. Answers the peaks of memory while it first ran, on the host and (None
        where it has none, or nobody counts) on the device; how long a run takes; and whether that was stable."""
        arrays = read_arrays(Path(feeds))
        keep_freed_blocks()
        reset_peak()
        self._runner.prepare(arrays)
        peaks = {"peak": peak_resident_bytes(), "device_peak": self._runner.device_memory()}
        done = warm_up(self._timed, self._clock, seconds)
        self._run_ns = done.run_ns
        self._runs = runs_per_sample(done.run_ns, timer_overhead(self._clock))
        return {**peaks, "stable": done.stable, "run_ns": done.run_ns}

    def block(self, seconds: float, settle: bool) -> Answer:
        """Samples in nanoseconds per run, and the joules per run that the machine used meanwhile.

        `settle`: another model ran since this one's last block.
        """
        if settle:
            settle_down(self._timed, self._clock, self._run_ns)
        counters = energy_counters(self._device)
        before = counters()
        samples = sample_block(self._timed, self._clock, seconds, self._runs)
        joules = joules_between(before, counters())
        return {
            "samples": samples,
            "joules": None if joules is None else joules / (len(samples) * self._runs),
            "clock_mhz": clock_mhz() if self._device == "cuda" else None,
        }

    def outputs(self, feeds: str, to: str) -> Answer:
        """Run once on other feeds and leave the outputs, in order, in the file `to`."""
        outputs = self._runner.run(read_arrays(Path(feeds)))
        write_arrays(Path(to), {str(index): output for index, output in enumerate(outputs)})
        return {}

    def profile(self, trace: str, seconds: float) -> Answer:
        """Time by layer, and a Chrome trace in the file `trace`."""
        if not hasattr(self._runner, "profile"):
            raise ModelkitError("The runtime has no profiler.", "Leave out --profile, or use another --runtime.")
        return {"layers": self._runner.profile(Path(trace), seconds)}

    def _timed(self, runs: int) -> int:
        return self._runner.timed(runs, self._clock)


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Types that .npz does not know (bfloat16) are written as bytes under their names."""
    named = {f"{index:04d} {array.dtype.name} {name}": array for index, (name, array) in enumerate(arrays.items())}
    with path.open("wb") as file:
        np.savez(file, **named)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays in the order they were written."""
    with np.load(path, allow_pickle=False) as file:
        found = {}
        for key in sorted(file.files):
            _, dtype, name = key.split(" ", 2)
            array = file[key]
            found[name] = array.view(numpy_dtype(dtype)) if array.dtype.kind == "V" else array
        return found


def answer(requests: dict[str, Callable[..., Answer]], line: str) -> Answer:
    request = json.loads(line)
    try:
        return requests[request.pop("request")](**request)
    except ModelkitError as error:
        return {"what": error.what, "fix": error.fix}
    except MemoryError:
        return {
            "what": "There is not enough memory to run the model.",
            "fix": "Use a smaller --batch-size, or close other programs.",
        }
    except Exception as error:  # the parent reports it: a traceback would mean nothing to the user
        traceback.print_exc()
        return {
            "what": f"Running the model failed: {type(error).__name__}: {error}",
            "fix": "Check the model, or try another --runtime.",
        }


def main() -> None:
    _die_with_parent()
    replies = _take_standard_output()
    worker = Worker()
    requests = {name: getattr(worker, name) for name in ("load", "warm_up", "block", "outputs", "profile")}
    for line in sys.stdin:
        print(json.dumps(answer(requests, line)), file=replies, flush=True)


def _take_standard_output() -> TextIO:
    """Libraries may print: send that to standard error, and keep the real standard output for replies."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return replies


def _die_with_parent() -> None:
    """A killed parent can't end a stopped worker, so the kernel is asked to (Linux; elsewhere closed input ends it)."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    main()
