"""Channel pruning without training, beside Torch-Pruning on the same network: `python benchmarks/prune.py [--fewer 1.5 2 2.5 3]`.

The network is the ResNet-56 that `python benchmarks/train_models.py resnet56` makes. Ours is the command that users run,
on 512 unlabelled training images. Torch-Pruning 1.6.1 is installed (without what it depends on) into `benchmarks/.peers`. Prints
a table, and writes it into docs/benchmarks.md with `--save`. Timings are only good on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import page
from command import modelkit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MODELS = HERE / "models"
PEER = "torch-pruning==1.6.1"
PACKAGES = HERE / ".peers" / "torch_pruning"


@dataclass
class Row:
    tool: str
    asked: str
    fewer: float | None = None
    accuracy: float | None = None
    seconds: float | None = None
    error: str = ""

    def cells(self) -> list[str]:
        result = [f"{self.fewer:.2f}×", f"{self.accuracy:.2%}"] if self.fewer and self.accuracy else ["–", self.error or "–"]
        return [self.tool, self.asked, *result, f"{self.seconds:.0f} s" if self.seconds else "–"]


def ours(fewer: list[float], faster: list[float], data: Path, folder: Path) -> list[Row]:
    from sample_models import datasets

    train = datasets.cifar(data, "train")
    np.savez(folder / "calib.npz", x=train.x[np.random.default_rng(0).permutation(len(train.y))[:512]].numpy())
    model, rows = MODELS / "resnet56.onnx", [Row("dense", "–", 1.0, accuracy(MODELS / "resnet56.onnx", data))]
    asked = [(f"{times:g}× fewer MACs", "--macs", 1 / times) for times in fewer]
    asked += [(f"{times:g}× as fast", "--speedup", times) for times in faster]
    for what, option, value in asked:
        out = folder / f"{what}.onnx"
        start = time.monotonic()
        done = modelkit("prune", model, option, value, "--calib", folder / "calib.npz", "-o", out, "--json")
        seconds = time.monotonic() - start
        if done.returncode:
            rows.append(Row("modelkit", what, error=done.stderr.strip().splitlines()[-1]))
            continue
        report = json.loads(done.stdout)
        reached = _speedup(model, out) if option == "--speedup" else report["inputs"][0]["macs"] / report["output"]["macs"]
        rows.append(Row("modelkit", what, reached, accuracy(out, data), seconds))
    return rows


def _speedup(original: Path, pruned: Path) -> float:
    """As `modelkit compare` measures it: a process for each model, in turns."""
    done = modelkit("bench", original, pruned, "--json", "-q")
    done.check_returncode()
    first, second = (entry["latency_ms"]["p50"] for entry in json.loads(done.stdout)["measurements"])
    return float(first / second)


def accuracy(path: Path, data: Path) -> float:
    import onnxruntime

    from sample_models import datasets

    test = datasets.cifar(data, "test")
    session = onnxruntime.InferenceSession(str(path))
    logits = [session.run(None, {"x": x.numpy()})[0] for x in test.x.split(256)]
    return float((np.concatenate(logits).argmax(1) == test.y.numpy()).mean())


def torch_pruning(method: str, fewer: list[float], data: Path, epochs: int = 0) -> list[Row]:
    if not PACKAGES.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(PACKAGES), PEER], check=True)
    script, weights = HERE / "peers" / "torch_pruning_cifar.py", MODELS / "resnet56.pt"
    command = [sys.executable, *map(str, (script, weights, data, method, epochs))]
    paths = os.pathsep.join([str(PACKAGES), str(ROOT)])
    rows = []
    for times in fewer:
        start = time.monotonic()
        done = subprocess.run(
            [*command, str(times)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": paths},
        )
        lines = done.stdout.splitlines()
        found = json.loads(lines[-1]) if lines else {"error": (done.stderr.strip().splitlines() or ["no answer"])[-1]}
        rows.append(
            Row(
                f"Torch-Pruning 1.6.1, {method}" + (", fine-tuned" if epochs else ""),
                f"{times:g}× fewer MACs",
                found.get("fewer"),
                found.get("accuracy"),
                time.monotonic() - start,
                found.get("error", ""),
            )
        )
    return rows


def table(rows: list[Row]) -> str:
    head = ["tool", "asked", "got", "test accuracy", "time"]
    lines = [head, ["---"] * len(head), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def machine() -> str:
    from importlib.metadata import version

    from modelkit.bench.environment import environment

    facts = environment()
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "torch", "numpy"))
    return f"{facts['cpu']}, {facts['cores']} cores, {' '.join(facts['isa'])}; {packages}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fewer", type=float, nargs="+", default=[1.5, 2.0, 2.5, 3.0], help="times fewer MACs")
    parser.add_argument("--faster", type=float, nargs="*", default=[1.5, 2.0], help="times as fast, by time measured here")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    parser.add_argument("--save", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    if not (MODELS / "resnet56.pt").exists():
        parser.error("train the network first: python benchmarks/train_models.py resnet56")
    with tempfile.TemporaryDirectory() as folder:
        rows = ours(arguments.fewer, arguments.faster, arguments.data, Path(folder))
    for method in ("group-l2", "taylor"):
        rows += torch_pruning(method, arguments.fewer, arguments.data)
    text = f"ResNet-56 for CIFAR-10, trained on 16,000 images; tested on 4,966. Measured on {machine()}\n\n{table(rows)}"
    print(text)
    if arguments.save:
        page.save("pruning", text, "Channel pruning without training")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
