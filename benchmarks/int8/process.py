"""What a whole process costs: wall time, start-up included, and peak resident memory.

The command is started by a bare interpreter that runs this file, because Linux counts the memory of the parent before `exec`
as the child's, and this one must be smaller than anything measured.
"""

import json
import os
import subprocess
import sys
import tempfile
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


class Libraries(NamedTuple):
    """`modules` by name, in the order in which they were imported to the end; `code_bytes`: of their files, in memory at last."""

    modules: list[str]
    code_bytes: int


def libraries(command: list[str]) -> Libraries:
    """What `command` uses of its libraries, in a run of its own: it is looked at every few milliseconds."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    code = 0
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment) as process:
            while process.poll() is None:
                code = max(code, _code_bytes(process.pid))
                time.sleep(0.005)
        errors.seek(0)
        lines = [line for line in errors if line.startswith("import time:")]
    return Libraries([line.rpartition("|")[2].strip() for line in lines[1:]], code)


def _code_bytes(pid: int) -> int:
    """Resident pages of program and library files; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return 0
    total, counted = 0, False
    for line in lines:
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):  # the head of a mapping: addresses, rights, offset, device, inode, file
            file = Path(rest.split(maxsplit=4)[-1]).name
            counted = ".so" in file or file.startswith("python")
        elif counted and first == "Rss:":
            total += int(rest.split()[0]) * 1024
    return total


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
