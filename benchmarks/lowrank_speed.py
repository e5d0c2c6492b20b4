"""Is the result of `modelkit lowrank` ever slower? Over the sample models and the architectures of the tests, in both formats.

    python benchmarks/lowrank_speed.py [--only WORD] [--save]

Each model is given to `modelkit lowrank --params 0.6` as a user would, and what it wrote is compared with the original by
`modelkit compare`. Timings are only good on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import page
from command import modelkit

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    from modelkit.bench.cpu import cpu_name

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only models whose name holds this")
    parser.add_argument("--save", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    lines = ["| model | parameters kept | speed-up [95 %] | verdict |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models(Path(folder)):
            if arguments.only in name:
                lines.append(row(name, model, Path(folder)))
                print(lines[-1], file=sys.stderr, flush=True)
    text = f"{cpu_name()}.\n\n" + "\n".join(lines)
    print(text)
    if arguments.save:
        page.save("low rank speed", text)


def models(folder: Path) -> Iterator[tuple[str, Path]]:
    from tests.architectures import ARCHITECTURES
    from tests.zoo_cache import ZooCache, cache_folder

    for sample in ("mnist-mlp", "digits-resnet", "cifar-cnn"):
        for suffix in ("onnx", "pt2"):
            yield f"{sample} .{suffix}", ROOT / "sample_models" / sample / f"model.{suffix}"
    cache = ZooCache(cache_folder())
    for name in ARCHITECTURES:
        yield f"{name} .onnx", cache.onnx(name)
        yield f"{name} .pt2", cache.pt2(name)
    for name in ("resnet20", "minilm", "resnet18"):
        file = ROOT / "benchmarks" / "models" / f"{name}.onnx"
        if file.exists():
            yield f"{name} .onnx", file


def row(name: str, model: Path, folder: Path) -> str:
    out = folder / f"low{model.suffix}"
    made = run("lowrank", model, "-o", out, "--force", "--params", 0.6)
    if isinstance(made, str):
        return f"| {name} | – | – | {made} |"
    kept = made["output"]["parameters"] / made["inputs"][0]["parameters"]
    if kept == 1:
        return f"| {name} | 100 % | 1 | unchanged |"
    found = run("compare", model, out, "--max-time", 15)
    if isinstance(found, str):
        return f"| {name} | {kept:.0%} | – | {found} |"
    metric = next(m for m in found["comparison"]["candidates"][0]["metrics"] if m["name"] == "latency_ms.p50")
    low, high = metric["ci95"]
    return f"| {name} | {kept:.0%} | {metric['ratio']:.2f} [{low:.2f}, {high:.2f}] | {metric['verdict']} |"


def run(*words: object) -> dict | str:
    """The report, or the first line of the error."""
    done = modelkit(*words, "--json", "-q")
    if done.returncode not in (0, 1, 3):
        return next((line for line in done.stderr.splitlines() if line.startswith("error")), done.stderr[-200:])
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
