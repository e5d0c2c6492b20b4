"""The most memory that this process held, ever or since the peak was reset."""

from __future__ import annotations

import sys
from pathlib import Path


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
