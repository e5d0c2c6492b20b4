"""Wanda and SparseGPT beside their authors' code on a language model.

    python benchmarks/sparsity.py --reference DIR --text FILE

DIR holds the two checkouts, which are not part of this repository and need not be installed:

    git clone https://github.com/locuslab/wanda DIR/wanda
    git clone https://github.com/IST-DASLab/sparsegpt DIR/sparsegpt

Both sides prune the linear layers of the same checkpoint's blocks, calibrated on the same windows of the training part of FILE;
the perplexity is that of the held-out part, computed by the same code.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import page
from command import modelkit
from language_model import CONTEXT, SAMPLE, export, hf, perplexity, running, tokens

ROOT = Path(__file__).resolve().parents[1]
CASES = [
    (m, s, p)
    for s, p in ((0.5, "unstructured"), (0.5, "2:4"), (0.7, "unstructured"))
    for m in ("magnitude", "wanda", "sparsegpt")
]


@dataclass
class Row:
    method: str
    pattern: str
    share: float
    reference: list[float]
    ours: dict[str, list[float]]
    seconds: float

    def cells(self, dense: float) -> list[str]:
        base = float(np.mean(self.reference))
        found = [
            f"{np.mean(values):.2f} ({np.mean(values) / np.mean(self.reference[: len(values)]) - 1:+.2%})"
            for values in self.ours.values()
        ]
        return [self.method, self.pattern, f"{self.share:g}", f"{dense:.2f}", f"{base:.2f}", *found, f"{self.seconds:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR", help="where the checkouts lie")
    parser.add_argument("--text", type=Path, required=True, metavar="FILE", help="the text that the model was trained on")
    parser.add_argument("--model", type=Path, default=SAMPLE, metavar="FOLDER", help="a Llama-type checkpoint with its tokenizer")
    parser.add_argument("--seeds", type=int, default=3, help="draws of calibration windows")
    parser.add_argument("--windows", type=int, default=128, help="calibration windows of 128 tokens")
    parser.add_argument("--save", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    for name in ("wanda", "sparsegpt"):
        if not (arguments.reference / name).is_dir():
            parser.error(f"{arguments.reference / name} is missing; see the top of this script for how to get it")
    train, held_out = tokens(arguments.model, arguments.text)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        dense = {"onnx": work / "dense.onnx", "pt2": work / "dense.pt2"}
        export(arguments.model, dense)
        original = hf(arguments.model)
        base = perplexity(lambda ids: original(input_ids=ids).logits, held_out)
        rows = [compare(case, arguments, dense, train, held_out, work) for case in CASES]
    table = render(rows, base, arguments)
    print(table)
    if arguments.save:
        save(table)


def compare(case, arguments, dense: dict[str, Path], train: np.ndarray, held_out: np.ndarray, work: Path) -> Row:
    method, share, pattern = case
    reference: list[float] = []
    ours: dict[str, list[float]] = {family: [] for family in dense}
    seconds = 0.0
    for seed in range(1 if method == "magnitude" else arguments.seeds):
        starts = np.random.default_rng(seed).integers(0, len(train) - CONTEXT, (arguments.windows, 1))
        windows = train[starts + np.arange(CONTEXT)]
        np.save(work / "calibration.npy", windows)
        out = work / "reference"
        script = ROOT / "benchmarks" / "peers" / "sparsity_reference.py"
        checkouts = [str(arguments.reference / name) for name in ("wanda", "sparsegpt")]
        words = [*checkouts, str(arguments.model), str(work / "calibration.npy"), method, str(share), pattern, str(out)]
        subprocess.run([sys.executable, str(script), *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        model = hf(out)
        reference.append(perplexity(lambda ids, model=model: model(input_ids=ids).logits, held_out))
        for family, file in list(dense.items())[: 2 if seed == 0 else 1]:  # both formats give the same
            pruned = work / f"pruned.{family}"
            started = time.perf_counter()
            words = ["prune", file, "--sparsity", share, "--pattern", pattern, "--algorithm", method, "--ignore", "*lm_head*",
                     "--calib", work / "calibration.npy", "--force", "-q", "-o", pruned]  # fmt: skip
            modelkit(*words).check_returncode()
            seconds = max(seconds, time.perf_counter() - started)
            ours[family].append(perplexity(running(pruned), held_out))
        print(
            f"{method} {pattern} {share} seed {seed}: {reference[-1]:.3f} {[f'{v[-1]:.3f}' for v in ours.values()]}", flush=True
        )
    return Row(method, pattern, share, reference, ours, seconds)


def render(rows: list[Row], dense: float, arguments: argparse.Namespace) -> str:
    from importlib.metadata import version

    from modelkit.bench.cpu import cpu_name, target_isa

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "transformers", "numpy"))
    head = ["method", "pattern", "sparsity", "dense", "authors' code", "ours, .onnx", "ours, .pt2", "seconds"]
    lines = [
        f"{cpu_name()} ({target_isa()}), Python {platform.python_version()}, {packages}. Model: {arguments.model.name}. "
        f"Perplexity per token on the held-out text, mean of {arguments.seeds} draws of {arguments.windows} calibration windows; "
        "in brackets the difference to the authors' code. Seconds: the slower of our two commands, start-up included.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row.cells(dense)) + " |" for row in rows),
    ]
    return "\n".join(lines)


def save(table: str) -> None:
    command = "`python benchmarks/sparsity.py --reference DIR --text FILE --save`"
    page.save("sparsity", f"## Sparsity of a language model\n\n{command}\n\n{table}")


if __name__ == "__main__":
    main()
