"""Pruned and trained again, beside Torch-Pruning fine-tuned for as many epochs: `python benchmarks/recover.py [--fewer 2 3]`.

The network is the ResNet-56 that `python benchmarks/train_models.py resnet56` makes. Ours is `modelkit prune` and
`modelkit recover` as users run them, with no labels; Torch-Pruning's result (Taylor importance, with labels) is trained on the
labels of the same images by SGD with momentum, as its examples do. Prints a table, and writes it into docs/benchmarks.md with
`--save`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import page
from command import modelkit
from prune import MODELS, PEER, ROOT, Row, accuracy, machine, table, torch_pruning


def ours(fewer: list[float], epochs: int, data: Path, folder: Path) -> list[Row]:
    from modelkit.analysis.macs import total_macs
    from modelkit.models.opening import open_model
    from sample_models import datasets

    np.savez(folder / "train.npz", x=datasets.cifar(data, "train").x.numpy())
    original, calib = MODELS / "resnet56.onnx", ["--calib", folder / "train.npz"]
    torch_file = [MODELS / "resnet56.pt", "--arch", "benchmarks.networks:resnet56", "--input", "x:float32[1,3,32,32]"]
    rows = []
    for times in fewer:
        pruned, out = folder / f"pruned-{times:g}.pt2", folder / f"recovered-{times:g}.onnx"
        start = time.monotonic()
        run("prune", *torch_file, "--macs", 1 / times, *calib, "-o", pruned)
        run("recover", pruned, "--teacher", original, *calib, "--epochs", epochs, "--batch-size", 64, "-o", out)
        seconds = time.monotonic() - start
        dense, left = (total_macs(open_model(path).graph) or 1 for path in (original, out))
        rows.append(Row("modelkit, recovered", f"{times:g}× fewer MACs", dense / left, accuracy(out, data), seconds))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def run(*words: object) -> None:
    done = modelkit(*words, "-q")
    if done.returncode:
        raise SystemExit(done.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fewer", type=float, nargs="+", default=[2.0, 3.0], help="times fewer MACs")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    parser.add_argument("--save", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    rows = torch_pruning("taylor", arguments.fewer, arguments.data, arguments.epochs)
    with tempfile.TemporaryDirectory() as folder:
        rows = ours(arguments.fewer, arguments.epochs, arguments.data, Path(folder)) + rows
    text = f"ResNet-56, {arguments.epochs} epochs over 16,000 images each; {PEER}. Measured on {machine()}\n\n{table(rows)}"
    print(text)
    if arguments.save:
        page.save("recovery", text, "Channel pruning and training")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
