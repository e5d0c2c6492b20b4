"""Energy counters: of the processor packages (RAPL) where the kernel shows them and lets us read them, of a GPU through NVML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .nvml import millijoules

POWERCAP = Path("/sys/class/powercap")

Counters = dict[str, tuple[int, int]]  # what is counted → (microjoules so far, where the counter starts again at 0)


def energy_counters(device: str) -> Callable[[], Counters | None]:
    """What reads the counters of the device that the model runs on."""
    return read_gpu if device == "cuda" else read_counters


def read_counters(powercap: Path = POWERCAP) -> Counters | None:
    """None where there are none, or only root may read them (usual since 2020)."""
    try:
        packages = sorted(powercap.glob("intel-rapl:[0-9]*"))
        found = {
            package.name: (_number(package / "energy_uj"), _number(package / "max_energy_range_uj"))
            for package in packages
            if package.name.count(":") == 1  # intel-rapl:0:0 is part of intel-rapl:0
        }
    except (OSError, ValueError):
        return None
    return found or None


def read_gpu() -> Counters | None:
    used = millijoules()
    return None if used is None else {"gpu": (1000 * used, 0)}


def why_no_energy(device: str, powercap: Path = POWERCAP) -> str | None:
    """Why energy can't be measured here, in one sentence; None where it can."""
    if energy_counters(device)() is not None:
        return None
    if device == "cuda":
        return "The GPU's driver does not count energy (NVML), or its library was not found."
    if not list(powercap.glob("intel-rapl:[0-9]*")):
        return "This machine shows no energy counters (RAPL); virtual machines usually have none."
    return "Only root may read the processor's energy counters: run as root, or `sudo chmod a+r` the energy_uj files of RAPL."


def joules_between(before: Counters | None, after: Counters | None) -> float | None:
    """Joules that everything counted used, whoever used them."""
    if before is None or after is None or before.keys() != after.keys():
        return None
    used = 0
    for name, (start, limit) in before.items():
        end = after[name][0]
        used += end - start if end >= start else end + limit - start
    return used / 1e6


def _number(path: Path) -> int:
    return int(path.read_text())
