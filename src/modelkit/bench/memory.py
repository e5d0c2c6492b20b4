"""The most memory that this process held, ever or since the peak was reset; and how its allocator keeps what is freed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

_LARGEST_KEPT = (32 << 20) - (64 << 10)  # a little less than glibc's DEFAULT_MMAP_THRESHOLD_MAX: it learns no more


def peak_resident_bytes() -> int:
    """Peak resident set of the process, in bytes: everything in it, interpreter and libraries included.

    On Linux from VmHWM, because getrusage's ru_maxrss is inherited from the parent across fork and exec.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def reset_peak() -> None:
    """Let the peak count from now on (Linux); elsewhere it goes on counting from the start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def keep_freed_blocks() -> None:
    """Bring glibc's allocator to where it is in a process that once freed a big block: from then on it keeps blocks up to that
    size for the next. Before, it gives each back to the system, and PyTorch, which allocates every value anew, spends a third of
    its time on getting pages. Otherwise it would be chance (how large a buffer loading the model freed) which of two models pays
    for that."""
    np.empty(_LARGEST_KEPT, np.uint8)  # freed at once, its pages never touched
