"""Ways to find out which of two models is slower, each as a user would go about it. A verdict is better, worse, same or
inconclusive, of the candidate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from statistics import fmean, variance

from .cases import Case

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"
ENVIRONMENT = HERE.parent / ".peers-timing"
PACKAGES = ("pytest-benchmark", "onnxruntime", "numpy")
RUN_SECONDS = 0.3  # of the model in each process that hyperfine starts
TOLERANCE = 0.01  # from which a difference of two medians counts

OURS = "modelkit compare"
LATENCY_MS = {("small", 1): 0.3, ("small", 2): 0.3, ("large", 2): 8.0}  # about


def modelkit(case: Case, baseline: Path, candidate: Path) -> str:
    words = [sys.executable, "-m", "modelkit", "compare", str(baseline), str(candidate), "--json", "-q"]
    words += ["--threads", str(case.threads), "--max-time", str(case.seconds)]
    document = json.loads(_run(words).stdout)
    metrics = {metric["name"]: metric for metric in document["comparison"]["candidates"][0]["metrics"]}
    return str(metrics["latency_ms.p50"]["verdict"])


def hyperfine(case: Case, baseline: Path, candidate: Path) -> str:
    """Ten runs of a whole process each, judged by Welch's test at 5%, as hyperfine's own script for that does."""
    runs = max(1, round(RUN_SECONDS * 1000 / LATENCY_MS[case.size, case.threads]))
    commands = [f"{sys.executable} {PEERS / 'run_model.py'} {path} {case.threads} {runs}" for path in (baseline, candidate)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "times.json"
        _run(
            [
                "hyperfine",
                "--shell=none",
                "--warmup",
                "1",
                "--runs",
                "10",
                "--style",
                "none",
                "--export-json",
                str(out),
                *commands,
            ]
        )
        a, b = (result["times"] for result in json.loads(out.read_text())["results"])
    error = variance(a) / len(a) + variance(b) / len(b)
    t = (fmean(b) - fmean(a)) / sqrt(error)
    freedom = error**2 / sum((variance(x) / len(x)) ** 2 / (len(x) - 1) for x in (a, b))
    from scipy.stats import t as student

    if 2 * student.sf(abs(t), freedom) >= 0.05:
        return "inconclusive"
    return "worse" if t > 0 else "better"


def pytest_benchmark(case: Case, baseline: Path, candidate: Path) -> str:
    """`--benchmark-compare-fail=median:5%`, which can only fail."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(_interpreter()), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PEERS / "test_model.py")]
        command += [f"--benchmark-storage={folder}", "--rootdir", folder]
        extra = [["--benchmark-save=before"], ["--benchmark-compare", "--benchmark-compare-fail=median:5%"]]
        for path, flags in zip((baseline, candidate), extra, strict=True):
            environment = {**os.environ, "MODEL": str(path), "THREADS": str(case.threads)}
            done = subprocess.run([*command, *flags], capture_output=True, text=True, env=environment)
            failed = "Performance has regressed" in done.stdout + done.stderr
            if done.returncode and not failed:
                raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return "worse" if failed else "same"


def one_after_the_other(case: Case, baseline: Path, candidate: Path) -> str:
    """The medians of two processes, as with onnxruntime_perf_test, are held against each other."""
    runs = max(20, round(2000 / LATENCY_MS[case.size, case.threads]))
    a, b = (
        float(_run([sys.executable, str(PEERS / "run_model.py"), str(path), str(case.threads), str(runs)]).stdout)
        for path in (baseline, candidate)
    )
    return "worse" if b > a * (1 + TOLERANCE) else "better" if b < a / (1 + TOLERANCE) else "same"


TOOLS: dict[str, Callable[[Case, Path, Path], str]] = {
    OURS: modelkit,
    "hyperfine, Welch's test": hyperfine,
    "pytest-benchmark, median:5%": pytest_benchmark,
    "one after the other, medians": one_after_the_other,
}


def install_peers() -> None:
    if shutil.which("hyperfine") is None:
        raise SystemExit("hyperfine is missing: `apt-get install hyperfine`.")
    python = _interpreter()
    if python.exists() and subprocess.run([str(python), "-c", "import pytest_benchmark, onnxruntime"]).returncode == 0:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)


def _interpreter() -> Path:
    return ENVIRONMENT / "bin" / "python"


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{' '.join(words)}\n{done.stderr[-2000:]}")
    return done
