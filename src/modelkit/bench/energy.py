"""Energy counters of the processor packages (RAPL), where the kernel shows them and lets us read them."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

Counters = dict[str, tuple[int, int]]  # package → (microjoules so far, where the counter starts again at 0)


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


def joules_between(before: Counters | None, after: Counters | None) -> float | None:
    """Joules that all packages used, whoever used them."""
    if before is None or after is None or before.keys() != after.keys():
        return None
    used = 0
    for name, (start, limit) in before.items():
        end = after[name][0]
        used += end - start if end >= start else end + limit - start
    return used / 1e6


def _number(path: Path) -> int:
    return int(path.read_text())
