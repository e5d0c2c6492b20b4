"""What processor this is, what it can do for quantised arithmetic, and how much of it may be used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Literal

Target = Literal["vnni", "avx2", "neon", "other"]

CPUINFO = Path("/proc/cpuinfo")
CGROUP = Path("/sys/fs/cgroup")
CPUS = Path("/sys/devices/system/cpu")
DEVICE_TREE = Path("/proc/device-tree/model")

# Linux's names for what matters to a runtime's kernels → the names used in reports, in order of interest.
FLAGS = {
    "avx": "avx",
    "f16c": "f16c",
    "fma": "fma",
    "avx2": "avx2",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "neon": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
}
MACOS_FEATURES = {
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
}


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """The brand string, or the next best thing that this system tells."""
    fields = _cpuinfo()
    for key in ("model name", "Hardware", "cpu"):
        if key in fields:
            return fields[key]
    if sys.platform == "darwin" and (brand := _sysctl("machdep.cpu.brand_string")):
        return brand
    try:
        return DEVICE_TREE.read_text().strip("\0\n ")
    except OSError:
        return platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def instruction_sets() -> tuple[str, ...]:
    """The extensions that decide which kernels runtimes use, e.g. ("avx2", "avx512f", "avx512_vnni")."""
    fields = _cpuinfo()
    present = set((fields.get("flags") or fields.get("Features") or "").split())
    found = [name for flag, name in FLAGS.items() if flag in present]
    if sys.platform == "darwin" and platform.machine() == "arm64":
        found = ["neon", *(name for key, name in MACOS_FEATURES.items() if _sysctl(key) == "1")]
    return tuple(dict.fromkeys(found))


def target_isa(isa: tuple[str, ...] | None = None) -> Target:
    """Which int8 scheme suits this CPU: whether u8 · s8 sums are exact ("vnni") or saturate 16 bits ("avx2")."""
    known = instruction_sets() if isa is None else isa
    if {"avx512_vnni", "avx_vnni", "amx_int8"} & set(known):
        return "vnni"
    if "avx2" in known:
        return "avx2"
    return "neon" if "neon" in known else "other"


def usable_cores() -> int:
    """Cores that this process may keep busy: affinity and the cgroup's quota count, hyperthreads of one core count once."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    cores = len({siblings(cpu) for cpu in allowed})
    quota = cgroup_cpus()
    return max(1, cores if quota is None else min(cores, ceil(quota)))


def physical_cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or the cgroup's limit."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _number(CGROUP / "memory.max") or _number(CGROUP / "memory/memory.limit_in_bytes")
    return min(total, limit) if limit else total


def cgroup_cpus(cgroup: Path = CGROUP) -> float | None:
    """Cores' worth of time that a container may use; None without a limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        quota, period = (str(_number(cgroup / "cpu" / name) or "max") for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    if not quota.isdigit() or not period.isdigit():
        return None  # "max", or -1 in version 1
    return int(quota) / int(period)


def _cpuinfo() -> dict[str, str]:
    """The first processor's fields."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    return fields


def siblings(cpu: int) -> str:
    """The same text for all hyperthreads of a core."""
    try:
        return (CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _sysctl(key: str) -> str:
    try:
        return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
