"""What a runtime is: something that loads a model file and runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.model import Feeds
from modelkit.core.names import identifier

Clock = Callable[[], int]  # nanoseconds, like time.perf_counter_ns
Value = TypeVar("Value")


class Runner(Protocol):
    """A loaded model. Feeds are matched to its inputs by name, or in order where the names differ."""

    def run(self, feeds: Feeds) -> list[Array]:
        """The outputs for these feeds, in the model's order, on the host. bfloat16 comes as float32."""
        ...

    def prepare(self, feeds: Feeds) -> None:
        """Take the feeds that `timed` runs on, copied to the device now so that the copy is never timed."""
        ...

    def timed(self, runs: int, clock: Clock) -> int:
        """Nanoseconds that `runs` runs on the prepared feeds took, the device's work included."""
        ...

    def device_memory(self) -> int | None:
        """The most bytes ever held on an accelerator; None where the model runs on the host, or nobody counts them."""
        ...


class Profiling(Protocol):
    """What a runner may also do: say where the time goes."""

    def profile(self, trace: Path, seconds: float) -> list[dict[str, Any]]:
        """Run on the prepared feeds for about so many seconds under the runtime's profiler. Writes a trace in Chrome's format
        to `trace`, and gives each operator, in order of execution: name, op, ms (per run) and share (of all operators)."""
        ...


class Runtime(Protocol):
    """A way to run model files. Asking `available` is cheap: it does not import the library."""

    name: str
    family: Literal["onnx", "torch"]  # reads .onnx files or .pt2 files

    def available(self) -> str | None:
        """None, or why this runtime can't be used on this machine and what to do about it, in one sentence."""
        ...

    def check_device(self, device: str) -> None:
        """Raises ModelkitError when `device` ("cpu" or "cuda") can't be used here. Imports the library only for "cuda"."""
        ...

    def load(self, path: Path, device: str, threads: int) -> Runner:
        """Raises ModelkitError when the device is missing or the file can't be run."""
        ...


def repeat(call: Callable[[], Any], runs: int, clock: Clock) -> int:
    """Nanoseconds for `runs` calls in a row, for work that is over when the call returns."""
    start = clock()
    for _ in range(runs):
        call()
    return clock() - start


def operator_times(events: Iterable[tuple[str, str, float]], runs: int) -> list[dict[str, Any]]:
    """The table of `Profiling.profile` from events (name, op, milliseconds) of `runs` runs."""
    times: dict[tuple[str, str], float] = {}
    for name, op, milliseconds in events:
        times[name, op] = times.get((name, op), 0.0) + milliseconds
    total = sum(times.values()) or 1.0
    return [{"name": name, "op": op, "ms": ms / max(runs, 1), "share": ms / total} for (name, op), ms in times.items()]


def match(feeds: Mapping[str, Value], names: Sequence[str], path: Path) -> dict[str, Value]:
    """The feeds under the names that the model uses: formats rename inputs, but keep their order."""
    called = {identifier(name): name for name in feeds}
    found = {name: name if name in feeds else called[identifier(name)] for name in names if identifier(name) in called}
    left, unused = [name for name in names if name not in found], [name for name in feeds if name not in found.values()]
    if not left or len(left) == len(unused):
        found |= dict(zip(left, unused, strict=False))
        return {name: feeds[found[name]] for name in names}
    raise ModelkitError(
        f"{path.name} takes {len(names)} inputs ({', '.join(names)}), but {len(feeds)} were given ({', '.join(feeds)}).",
        "Give one array for each input.",
    )
