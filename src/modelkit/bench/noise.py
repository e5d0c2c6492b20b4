"""What on this machine makes a measurement less certain. Each warning says what to change."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelkit.core.errors import NoiseWarning

CPUS = Path("/sys/devices/system/cpu")
BUSY = 0.15  # of one core
STOLEN = 0.02  # of the time
GLANCE_SECONDS = 0.2


@dataclass(frozen=True)
class Surroundings:
    """What was seen at one moment: `throttled` counts thermal events so far, `stolen` is (stolen, all) CPU seconds so far."""

    busy_cores: float
    governors: frozenset[str]
    throttled: int
    stolen: tuple[float, float]


def look(cpus: Path = CPUS) -> Surroundings:
    """Takes 0.2 s, in which this process sleeps, so what is busy is others."""
    cores = psutil.cpu_count() or 1
    return Surroundings(
        busy_cores=psutil.cpu_percent(GLANCE_SECONDS) / 100 * cores,
        governors=frozenset(_words(cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"))),
        throttled=sum(int(word) for word in _words(cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))),
        stolen=_stolen(),
    )


def noise_before(seen: Surroundings, threads: int, cores: int) -> list[str]:
    """`cores`: how many this process may use."""
    found = []
    if threads > cores:
        found.append(f"{threads} threads share {cores} usable cores: use --threads {cores} or fewer.")
    if seen.busy_cores > BUSY:
        found.append(f"Other programs keep {seen.busy_cores:.1f} cores busy: close them and measure again.")
    if slow := seen.governors - {"performance"}:
        found.append(
            f"The CPU frequency governor is {', '.join(sorted(slow))}, so the clock varies: "
            "`sudo cpupower frequency-set -g performance` keeps it steady."
        )
    return found


def noise_during(before: Surroundings, after: Surroundings) -> list[str]:
    found = []
    if after.throttled > before.throttled:
        found.append("The CPU was throttled because it got hot: improve its cooling, or use fewer --threads.")
    stolen, total = (end - start for start, end in zip(before.stolen, after.stolen, strict=True))
    if total > 0 and stolen / total > STOLEN:
        found.append(f"The hypervisor gave {stolen / total:.0%} of the CPU time to other machines: measure on a dedicated one.")
    return found


def warn(messages: Sequence[str]) -> None:
    for message in messages:
        warnings.warn(NoiseWarning(message), stacklevel=3)


def _words(paths: object) -> list[str]:
    found = []
    for path in paths:  # type: ignore[attr-defined]
        try:
            found.append(path.read_text().strip())
        except OSError:
            continue
    return found


def _stolen() -> tuple[float, float]:
    times = psutil.cpu_times()
    return float(getattr(times, "steal", 0.0)), float(sum(times))
