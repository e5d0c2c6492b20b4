"""What an NVIDIA GPU tells of itself through its driver's library (NVML): clock, energy, and whether it was slowed down."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

SM_CLOCK = 1
# Reasons why the clock is lower than asked for that a measurement suffers from: power cap, heat, a brake from outside.
SLOWED = 0x0000000000000004 | 0x0000000000000008 | 0x0000000000000020 | 0x0000000000000040 | 0x0000000000000080


@lru_cache(maxsize=1)
def _device() -> tuple[Any, Any] | None:
    """The library and the first GPU's handle."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle = ctypes.c_void_p()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)):
        return None
    return library, handle


def clock_mhz() -> int | None:
    """The clock of the streaming multiprocessors now."""
    return _number(ctypes.c_uint(), "nvmlDeviceGetClockInfo", SM_CLOCK)


def millijoules() -> int | None:
    """Energy since the driver was loaded; GPUs before Volta do not count it."""
    return _number(ctypes.c_ulonglong(), "nvmlDeviceGetTotalEnergyConsumption")


def slowed_down() -> bool:
    reasons = _number(ctypes.c_ulonglong(), "nvmlDeviceGetCurrentClocksThrottleReasons")
    return bool((reasons or 0) & SLOWED)


def _number(value: Any, question: str, *arguments: int) -> int | None:
    found = _device()
    if found is None:
        return None
    library, handle = found
    failed = getattr(library, question)(handle, *arguments, ctypes.byref(value))
    return None if failed else int(value.value)
