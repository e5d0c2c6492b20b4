"""What a whole process costs: wall time, start-up included, and peak resident memory.

The command is started by a bare interpreter that runs this file, because Linux counts the memory of the parent before `exec`
as the child's, and this one must be smaller than anything measured.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    seconds: float
    peak_bytes: int


def cost(command: list[str], environment: dict[str, str] | None = None) -> Cost:
    """Run `command` to its end. Raises RuntimeError with its last message when it fails."""
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *command]
    done = subprocess.run(launcher, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise RuntimeError(lines[-1].strip() if lines else f"exit code {done.returncode}")
    return Cost(**json.loads(done.stdout))


def _launch(command: list[str]) -> int:
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": usage.ru_maxrss * unit}))
    return os.waitstatus_to_exitcode(status) and 1


if __name__ == "__main__":
    sys.exit(_launch(sys.argv[1:]))
