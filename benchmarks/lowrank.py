"""Low rank: plain SVD, activation-aware and refitted factors, uniform and allocated ranks, at equal parameters.

    python benchmarks/lowrank.py [--only WORD] [--save]

On a real sentence encoder (agreement of similarities with the dense one on sentences of the data folder), CNNs and a small
language model trained on it. Shares of parameters are of the layers that are factorised (the encoder's linears, not its tables).
"Never slower" is `benchmarks/lowrank_speed.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import page
from command import modelkit

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "benchmarks" / "models"
SHARES = (0.8, 0.6, 0.5)
WAYS = {
    "plain SVD, uniform": ("svd", True),
    "whitened, uniform": ("whitened", True),
    "refit, uniform": ("refit", True),
    "plain SVD, allocated": ("svd", False),
    "whitened, allocated": ("whitened", False),
    "refit, allocated": ("refit", False),
    "Fisher and refit, allocated": ("fisher", False),
}


def main() -> None:
    from modelkit.bench.cpu import cpu_name

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only models whose name holds this")
    parser.add_argument("--way", default="", help="only ways whose name holds this")
    parser.add_argument("--save", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    ways = {name: way for name, way in WAYS.items() if arguments.way in name}
    lines = [
        f"| model, metric | factors | {' | '.join(f'{share:g}' for share in SHARES)} | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, model, calib, score in cases():
        if arguments.only not in name:
            continue
        lines.append(f"| {name} | dense | {' | '.join([score(model)] * len(SHARES))} | |")
        for way, (algorithm, uniform) in ways.items():
            found, seconds = [], 0.0
            for share in SHARES:
                value, took = factorised(model, calib, algorithm, uniform, share, score)
                found.append(value)
                seconds = max(seconds, took)
                print(f"{name}: {way} at {share}: {value} ({took:.0f} s)", file=sys.stderr, flush=True)
            lines.append(f"| {name} | {way} | {' | '.join(found)} | {seconds:.0f} |")
    text = f"{cpu_name()}.\n\n" + "\n".join(lines) + f"\n\n{partial()}"
    print(text)
    if arguments.save:
        page.save("low rank", text)


def cases() -> Any:
    encoder = MODELS / "minilm.onnx"
    if not encoder.exists():
        raise SystemExit("benchmarks/models/minilm.onnx is missing: `python benchmarks/train_models.py minilm`.")
    yield "MiniLM-L6, Spearman with dense", encoder, MODELS / "minilm-calib.npz", similarities(encoder)
    data = ROOT.parent / "shared" / "data"
    if (data / "cifar10_test.npz").exists():
        calib, test = images("train"), images("test", 5000)
        models = {"CIFAR CNN": ROOT / "sample_models" / "cifar-cnn" / "model.onnx", "ResNet-20": MODELS / "resnet20.onnx"}
        for name, model in models.items():
            if model.exists():
                yield f"{name}, accuracy (KL from dense)", model, calib, classification(model, test)
    texts = sorted((data / "text").glob("*hakespeare*.txt"))
    if texts:
        yield "Llama of 1 M parameters, perplexity", *language_model(texts[0])


def language_model(text: Path) -> tuple[Path, Path, Any]:
    from language_model import CONTEXT, SAMPLE, export, perplexity, running, tokens

    train, held_out = tokens(SAMPLE, text)
    files = {family: MODELS / f"llama.{family}" for family in ("pt2", "onnx")}
    if not files["onnx"].exists():
        export(SAMPLE, files)
    starts = np.random.default_rng(0).integers(0, len(train) - CONTEXT, (128, 1))
    np.savez(MODELS / "llama-calib.npz", input_ids=train[starts + np.arange(CONTEXT)])
    return files["onnx"], MODELS / "llama-calib.npz", lambda path: f"{perplexity(running(path), held_out):.4f}"


def images(part: str, count: int = 512) -> Path:
    """Some of CIFAR-10, as the models were trained on it."""
    from sample_models import datasets

    out = MODELS / f"lowrank-{part}-{count}.npz"
    chosen = datasets.cifar(ROOT.parent / "shared" / "data", part)
    np.savez(out, x=chosen.x[:count].numpy(), y=chosen.y[:count].numpy())
    return out


def run(*words: object) -> dict[str, Any]:
    done = modelkit(*words, "--json", "-q")
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def factorised(model: Path, calib: Path, algorithm: str, uniform: bool, share: float, score: Any) -> tuple[str, float]:
    report = run("inspect", model)["inputs"][0]
    layers = [layer for layer in report["layers"] if layer["kind"] != "embedding" and "lm_head" not in layer["name"]]
    inside = sum(layer["parameters"] for layer in layers)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "low.onnx"
        words = ["lowrank", model, "-o", out, "--always", "--algorithm", algorithm, "--calib", calib]
        words += [word for layer in report["layers"] if layer not in layers for word in ("--ignore", layer["name"])]
        began = time.monotonic()
        if uniform:
            return uniformly(model, calib, algorithm, share, out, score)
        words += ["--params", 1 - (1 - share) * inside / report["parameters"]]
        run(*words)
        return score(out), time.monotonic() - began


def uniformly(model: Path, calib: Path, algorithm: str, share: float, out: Path, score: Any) -> tuple[str, float]:
    """Every layer with the rank that leaves it this share of its parameters."""
    from modelkit.core import passes
    from modelkit.core.pruning import Budget
    from modelkit.data import open_data
    from modelkit.lowrank.choices import Recipe
    from modelkit.lowrank.fitting import fit, key
    from modelkit.lowrank.pipeline import calibration_batches
    from modelkit.lowrank.planning import Factorisation, plan_lowrank
    from modelkit.models.opening import open_model

    began = time.monotonic()
    opened = open_model(model)
    chosen: Any = passes.build(f"lowrank.{algorithm}", {})
    data = open_data(str(calib), opened.graph.inputs)
    wanted = Factorisation(algorithm, chosen, Budget("params", share), always=True)
    plan = plan_lowrank(opened, wanted, data)
    choices = {}
    for unit in plan.units:
        for layer in unit.layers:
            rows, *others = layer.parameters["weight"].shape
            columns = int(np.prod(others))
            rank = int(share * rows * columns / (rows + columns))
            if layer.kind != "embedding" and "lm_head" not in layer.name and rank:
                choices.setdefault(key(unit), {})[layer.name] = Recipe("svd", (rank,))
    changed = [unit for unit in plan.units if key(unit) in choices]
    result, _ = fit(plan.base, changed, choices, chosen, calibration_batches(plan.base, data), wanted.samples, wanted.seed)
    result.save(out)
    return score(out), time.monotonic() - began


def similarities(dense: Path) -> Any:
    """Spearman's correlation of the cosine similarities of all pairs of test sentences with the dense encoder's."""
    feeds = dict(np.load(MODELS / "minilm-test.npz"))
    feeds = {name: feeds[name][:256] for name in ("input_ids", "attention_mask") if name in feeds}

    def cosines(path: Path) -> Any:
        import onnxruntime

        vectors = onnxruntime.InferenceSession(path).run(None, feeds)[0]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]

    expected = rank(cosines(dense))
    return lambda path: f"{np.corrcoef(expected, rank(cosines(path)))[0, 1]:.4f}"


def rank(values: Any) -> Any:
    return np.argsort(np.argsort(values))


def classification(dense: Path, data: Path) -> Any:
    """Accuracy, and how far the answers are from the dense network's in nats: where accuracies are alike, that still tells."""
    from modelkit.bench.metrics.classification import Accuracy
    from modelkit.bench.metrics.distance import Divergence
    from modelkit.bench.metrics.metric import Evaluated

    test = np.load(data)

    def scores(path: Path) -> Any:
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        name = session.get_inputs()[0].name
        return np.concatenate([session.run(None, {name: test["x"][i : i + 50]})[0] for i in range(0, len(test["x"]), 50)])

    expected = scores(dense)

    def score(path: Path) -> str:
        found = Evaluated({}, [scores(path)], test["y"], [expected])
        accuracy, divergence = (metric.total(metric.rows(found)) for metric in (Accuracy(), Divergence()))
        return f"{accuracy:.4f} ({divergence:.5f})"

    return score


def partial() -> str:
    """Time of the leading 64 of 4096 directions, partial and whole, and the error of each."""
    from modelkit.algorithms.lowrank.partial import leading

    rng = np.random.default_rng(0)
    Q = [np.linalg.qr(rng.standard_normal((4096, 4096), np.float32))[0] for _ in range(2)]
    M = (Q[0] / np.arange(1, 4097, dtype=np.float32)) @ Q[1]
    began = time.monotonic()
    U, s, Vt = np.linalg.svd(M, full_matrices=False)
    whole = time.monotonic() - began
    best = np.linalg.norm(M - (U[:, :64] * s[:64]) @ Vt[:64])
    began = time.monotonic()
    found, _ = leading(M, 64)
    took = time.monotonic() - began
    found = found.astype(np.float32)
    return (
        f"Rank 64 of a 4096×4096 matrix: {took:.2f} s partially, {whole:.1f} s by a whole SVD ({whole / took:.0f}× faster), "
        f"error {np.linalg.norm(M - found @ (found.T @ M)) / best - 1:+.2%}."
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
