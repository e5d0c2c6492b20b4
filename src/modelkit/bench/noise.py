"""What on this machine makes a measurement less certain. Each warning says what to change."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from modelkit.core.errors import FrequencyWarning, LoadWarning, NoiseWarning, StolenWarning, ThreadsWarning, ThrottledWarning

from .cpu import siblings
from .nvml import slowed_down

CPUS = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")
BUSY = 0.15  # of one core
STOLEN = 0.02  # of the time
GLANCE_SECONDS = 0.05


@dataclass(frozen=True)
class Surroundings:
    """What was seen at one moment. Counters count from some start: `throttled` events, `stolen` and `busy` CPU seconds, and
    those of every process (pid → name, seconds)."""

    at: float
    busy: float
    stolen: float
    total: float
    throttled: int = 0
    limited: int = 0  # periods in which a container's quota ran out
    governors: frozenset[str] = frozenset()
    gpu_slowed: bool = False
    processes: Mapping[int, tuple[str, float]] = field(default_factory=dict)


def look(device: str = "cpu", cpus: Path = CPUS, cgroup: Path = CGROUP) -> Surroundings:
    times = psutil.cpu_times()
    stolen = float(getattr(times, "steal", 0.0))
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # also counted as user
    return Surroundings(
        at=time.monotonic(),
        busy=sum(times) - idle - stolen - guest,
        stolen=stolen,
        total=float(sum(times)),
        throttled=sum(int(word) for word in _words(cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))),
        limited=_limited(cgroup),
        governors=frozenset(_words(cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"))),
        gpu_slowed=device == "cuda" and slowed_down(),
        processes=_processes(),
    )


def noise_before(seen: Surroundings, threads: int, cores: int) -> list[NoiseWarning]:
    """`cores`: how many this process may use."""
    found: list[NoiseWarning] = []
    if threads > cores:
        found.append(ThreadsWarning(f"{threads} threads share {cores} usable cores: use --threads {cores} or fewer."))
    if hasattr(os, "sched_getaffinity") and (allowed := len(os.sched_getaffinity(0))) < (every := os.cpu_count() or 1):
        found.append(
            ThreadsWarning(
                f"Affinity keeps this process on {allowed} of {every} CPUs: start it without taskset (or with other CPU "
                "settings of the container) to measure the whole machine."
            )
        )
    if slow := seen.governors - {"performance"}:
        found.append(
            FrequencyWarning(
                f"The CPU frequency governor is {', '.join(sorted(slow))}, so the clock varies: "
                "`sudo cpupower frequency-set -g performance` keeps it steady."
            )
        )
    return found


def noise_during(before: Surroundings, after: Surroundings, ours: float) -> list[NoiseWarning]:
    """`ours`: the CPU seconds that we and our workers used in between."""
    found: list[NoiseWarning] = []
    seconds = after.at - before.at
    others = (after.busy - before.busy - ours) / seconds if seconds > 0 else 0.0
    if others > BUSY:
        found.append(
            LoadWarning(f"Other programs kept {others:.1f} cores busy{_culprits(before, after)}: end them and measure again.")
        )
    if after.throttled > before.throttled:
        found.append(ThrottledWarning("The CPU was throttled because it got hot: improve its cooling, or use fewer --threads."))
    if after.limited > before.limited:
        found.append(ThrottledWarning("The container's CPU quota ran out: raise it, or use fewer --threads."))
    if after.gpu_slowed or before.gpu_slowed:
        found.append(
            ThrottledWarning("The GPU ran below its clock (heat or power limit): cool it, or fix its clock with nvidia-smi -lgc.")
        )
    stolen, total = after.stolen - before.stolen, after.total - before.total
    if total > 0 and stolen / total > STOLEN:
        found.append(
            StolenWarning(
                f"The hypervisor gave {stolen / total:.0%} of the CPU time to other machines: measure on a dedicated one."
            )
        )
    return found


def quiet_cpus(threads: int) -> list[int] | None:
    """A CPU for each thread, of the cores that are least busy now; None where all cores are needed or nothing can be chosen.
    Sleeps, so ours must be stopped. A model with fewer threads than cores then has its cores to itself if others leave it any."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores: dict[str, list[int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        cores.setdefault(siblings(cpu), []).append(cpu)
    if threads >= len(cores):
        return None
    busy = psutil.cpu_percent(GLANCE_SECONDS, percpu=True)
    if len(busy) <= max(cpu for cpus in cores.values() for cpu in cpus):
        return None
    least = sorted(cores.values(), key=lambda cpus: sum(busy[cpu] for cpu in cpus))[:threads]
    return sorted(cpus[0] for cpus in least)


def own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def warn(found: Iterable[NoiseWarning]) -> None:
    for warning in found:
        warnings.warn(warning, stacklevel=3)


def _culprits(before: Surroundings, after: Surroundings) -> str:
    """The programs that used most, e.g. " (stress, pid 41)"; nothing where a container hides them."""
    seconds = after.at - before.at
    used = {
        pid: (name, seconds_now - before.processes.get(pid, (name, 0.0))[1])
        for pid, (name, seconds_now) in after.processes.items()
        if pid != os.getpid()
    }
    most = sorted((share for share in used.items() if share[1][1] > BUSY * seconds), key=lambda share: -share[1][1])[:3]
    return f" ({', '.join(f'{name}, pid {pid}' for pid, (name, _) in most)})" if most else ""


def _processes() -> dict[int, tuple[str, float]]:
    found = {}
    for process in psutil.process_iter():
        try:
            with process.oneshot():
                times = process.cpu_times()
                found[process.pid] = (process.name(), times.user + times.system)
        except psutil.Error:
            continue
    return found


def _limited(cgroup: Path) -> int:
    for word in _words([cgroup / "cpu.stat", cgroup / "cpu/cpu.stat"]):
        for line in word.splitlines():
            if line.startswith("nr_throttled "):
                return int(line.split()[1])
    return 0


def _words(paths: Iterable[Path]) -> Sequence[str]:
    found = []
    for path in paths:
        try:
            found.append(path.read_text().strip())
        except OSError:
            continue
    return found
