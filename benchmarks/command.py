"""The command that is measured, as users run it."""

import subprocess
import sys


def modelkit(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "modelkit", *map(str, words)], capture_output=True, text=True, check=False)
