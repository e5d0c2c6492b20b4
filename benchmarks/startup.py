"""How long `modelkit --help` takes beside a bare Typer program, and whether `inspect` and `bench` of ONNX files import torch.

`python benchmarks/startup.py [--rounds 20]`
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "sample_models" / "digits-resnet" / "model.onnx"
BAR = 1.3

BARE = """\
import typer

app = typer.Typer()


@app.command()
def greet(name: str) -> None:
    print(f"Hello {name}")


app()
"""
# Stands in front of the real torch, in the process and in those that it starts.
DECOY = "from pathlib import Path\nPath({marker!r}).touch()\nraise ImportError('torch was imported')\n"


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def help_ratio(folder: Path, rounds: int) -> tuple[float, float]:
    """Median seconds of `modelkit --help` and of the bare program's."""
    bare = folder / "bare.py"
    bare.write_text(BARE)
    commands = ([sys.executable, "-m", "modelkit", "--help"], [sys.executable, str(bare), "--help"])
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for command, taken in zip(commands, times, strict=True):
            duration = seconds(command)
            if turn:  # the first fills the caches
                taken.append(duration)
    return median(times[0]), median(times[1])


def imports_torch(command: list[str], folder: Path) -> bool:
    marker = folder / "imported"
    marker.unlink(missing_ok=True)
    (folder / "torch.py").write_text(DECOY.format(marker=str(marker)))
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    arguments = [sys.executable, "-m", "modelkit", *command]
    done = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode and not marker.exists():
        raise SystemExit(f"modelkit {' '.join(command)} failed:\n{done.stderr}")
    return marker.exists()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours, bare = help_ratio(folder, rounds)
        loading = [command for command in ("inspect", "bench") if imports_torch([command, str(MODEL)], folder)]
    print(f"modelkit --help {ours * 1e3:.0f} ms, a bare Typer program's {bare * 1e3:.0f} ms: {ours / bare:.2f} × (bar {BAR})")
    for command in ("inspect", "bench"):
        print(f"{command} x.onnx imports {'torch' if command in loading else 'no torch'}")
    return 0 if ours <= BAR * bare and not loading else 1


if __name__ == "__main__":
    sys.exit(main())
